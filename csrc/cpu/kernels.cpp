#include "kernels.h"

#include "vector.h"

TINYDIFF_BEGIN

#define TEXT(name) #name
#define NAME(name) TEXT(name)
#define K(name, arguments) name,
const Kernels kernels = {NAME(TINYDIFF_ISA), TINYDIFF_KERNELS(K)};

TINYDIFF_END
