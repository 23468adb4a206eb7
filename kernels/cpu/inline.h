#pragma once

// For what must end up inside the loop that calls it: a call would send every vector through
// memory. And for what is no template over an instruction set, in headers that all sets share: no
// function is left that the linker could take from another set's object (simd.h).
#define XCOMPOSER_INLINE inline __attribute__((always_inline))
// For a loop that needs all registers for itself.
#define XCOMPOSER_NOINLINE __attribute__((noinline))
