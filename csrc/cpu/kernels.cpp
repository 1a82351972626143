#include "kernels.h"

#include "vector.h"

TINYDIFF_BEGIN

#define TEXT(name) #name
#define NAME(name) TEXT(name)
#define K(name, arguments) name,
#define F(name, arguments) name<float>,
#define B(name, arguments) name<bfloat16>,
const Kernels kernels = {NAME(TINYDIFF_ISA),
                         {TINYDIFF_MODEL_KERNELS(F)},
#ifndef __wasm__
                         {TINYDIFF_MODEL_KERNELS(B)},
#endif
                         TINYDIFF_KERNELS(K)};

TINYDIFF_END
