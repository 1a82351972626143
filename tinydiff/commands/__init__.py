"""The commands of ``tinydiff``, one file each; those of a package of its own (gradcheck, interop) stand there."""
