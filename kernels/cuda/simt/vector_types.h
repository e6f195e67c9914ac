// CUDA's structs, for g++: the dimensions of a launch and the vectors that
// kernels load and store whole.

#ifndef KERNELS_CUDA_SIMT_VECTOR_TYPES_H_
#define KERNELS_CUDA_SIMT_VECTOR_TYPES_H_

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1)
      : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

#define TEMPER_SIMT_VECTORS(type, name)                            \
  struct alignas(2 * sizeof(type)) name##2 {                       \
    type x, y;                                                     \
  };                                                               \
  struct alignas(4 * sizeof(type)) name##4 {                       \
    type x, y, z, w;                                               \
  };                                                               \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) {  \
    return {x, y, z, w};                                           \
  }
TEMPER_SIMT_VECTORS(float, float)
TEMPER_SIMT_VECTORS(int, int)
TEMPER_SIMT_VECTORS(unsigned, uint)
#undef TEMPER_SIMT_VECTORS

#endif  // KERNELS_CUDA_SIMT_VECTOR_TYPES_H_
