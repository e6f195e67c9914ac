// The part of ptx.h that is bulk copies. Included by it alone.

#ifndef KERNELS_CUDA_SIMT_PTX_BULK_H_
#define KERNELS_CUDA_SIMT_PTX_BULK_H_

namespace temper::simt {

#define TEMPER_TENSOR_LOAD(dimensions, coordinates, ...)                    \
  asm volatile("cp.async.bulk.tensor." dimensions                           \
               ".shared::cluster.global.tile.mbarrier::complete_tx::bytes " \
               "[%0], [%1, " coordinates                                    \
               "], [%2];" ::"r"(SharedAddress(shared)),                     \
               "l"(map), "r"(SharedAddress(mbarrier)), __VA_ARGS__          \
               : "memory")
#define TEMPER_TENSOR_STORE(dimensions, coordinates, ...)              \
  asm volatile("cp.async.bulk.tensor." dimensions                      \
               ".global.shared::cta.tile.bulk_group [%0, " coordinates \
               "], [%1];" ::"l"(map),                                  \
               "r"(SharedAddress(shared)), __VA_ARGS__                 \
               : "memory")

template <int kRank>
TEMPER_PTX void TensorLoad(void* shared, const TensorMap* map,
                           uint64_t* mbarrier, const int32_t (&at)[kRank]) {
  static_assert(kRank >= 1 && kRank <= 3);
  if constexpr (kRank == 1) {
    TEMPER_TENSOR_LOAD("1d", "{%3}", "r"(at[0]));
  } else if constexpr (kRank == 2) {
    TEMPER_TENSOR_LOAD("2d", "{%3, %4}", "r"(at[0]), "r"(at[1]));
  } else {
    TEMPER_TENSOR_LOAD("3d", "{%3, %4, %5}", "r"(at[0]), "r"(at[1]),
                       "r"(at[2]));
  }
}

template <int kRank>
TEMPER_PTX void TensorStore(const TensorMap* map, const int32_t (&at)[kRank],
                            const void* shared) {
  static_assert(kRank >= 1 && kRank <= 3);
  if constexpr (kRank == 1) {
    TEMPER_TENSOR_STORE("1d", "{%2}", "r"(at[0]));
  } else if constexpr (kRank == 2) {
    TEMPER_TENSOR_STORE("2d", "{%2, %3}", "r"(at[0]), "r"(at[1]));
  } else {
    TEMPER_TENSOR_STORE("3d", "{%2, %3, %4}", "r"(at[0]), "r"(at[1]),
                        "r"(at[2]));
  }
}
#undef TEMPER_TENSOR_LOAD
#undef TEMPER_TENSOR_STORE

TEMPER_PTX void BulkLoad(void* shared, const void* global, uint32_t bytes,
                         uint64_t* mbarrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1], %2, [%3];" ::"r"(SharedAddress(shared)),
      "l"(global), "r"(bytes), "r"(SharedAddress(mbarrier))
      : "memory");
}
TEMPER_PTX void BulkCommit() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
template <uint32_t kPending>
TEMPER_PTX void BulkWait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_PTX_BULK_H_
