// The part of ptx.h that is wgmma. Included by it alone.

#ifndef KERNELS_CUDA_SIMT_PTX_WGMMA_H_
#define KERNELS_CUDA_SIMT_PTX_WGMMA_H_

namespace temper::simt {

enum class Major { kK, kRow };

TEMPER_PTX uint64_t DescribeMatrix(const void* shared, uint32_t leading_bytes,
                                   uint32_t stride_bytes, Swizzle swizzle) {
  constexpr uint64_t kTop[] = {0, 3, 2, 1};  // by Swizzle
  const auto field = [](uint32_t bytes) {
    return static_cast<uint64_t>((bytes & 0x3ffff) >> 4);
  };
  return field(SharedAddress(shared)) | field(leading_bytes) << 16 |
         field(stride_bytes) << 32 | kTop[static_cast<int>(swizzle)] << 62;
}

TEMPER_PTX void WgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
TEMPER_PTX void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <uint32_t kPending>
TEMPER_PTX void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// The compiler does not know that a wgmma goes on after its instruction: this
// keeps it from moving accesses to the sum, or to A, past a fence or a wait.
template <int kCount>
TEMPER_PTX void HoldRegisters(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kCount>
TEMPER_PTX void HoldRegisters(uint32_t (&a)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(a[i])::"memory");
}

// Lists of a sum's registers: as operands, and as PTX numbers them.
#define TEMPER_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define TEMPER_D8(i) TEMPER_D4(i), TEMPER_D4(i + 4)
#define TEMPER_D16(i) TEMPER_D8(i), TEMPER_D8(i + 8)
#define TEMPER_D32(i) TEMPER_D16(i), TEMPER_D16(i + 16)
#define TEMPER_D48(i) TEMPER_D32(i), TEMPER_D16(i + 32)
#define TEMPER_D64(i) TEMPER_D32(i), TEMPER_D32(i + 32)
#define TEMPER_D96(i) TEMPER_D64(i), TEMPER_D32(i + 64)
#define TEMPER_D128(i) TEMPER_D64(i), TEMPER_D64(i + 64)
#define TEMPER_P4 "%0,%1,%2,%3"
#define TEMPER_P8 \
  TEMPER_P4       \
  ","             \
  "%4,%5,%6,%7"
#define TEMPER_P16 \
  TEMPER_P8        \
  ","              \
  "%8,%9,%10,%11,%12,%13,%14,%15"
#define TEMPER_P32 \
  TEMPER_P16       \
  ","              \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define TEMPER_P48 \
  TEMPER_P32       \
  ","              \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define TEMPER_P64 \
  TEMPER_P48       \
  ","              \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define TEMPER_P96                                                   \
  TEMPER_P64                                                         \
  ","                                                                \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define TEMPER_P128                                                        \
  TEMPER_P96                                                               \
  ","                                                                      \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%"    \
  "110,%111,"                                                              \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125," \
  "%126,%127"

// The instances: columns, registers of the sum, and the numbers of the operands
// that come after those.
#define TEMPER_WGMMAS(instance)                                                \
  instance(8, 4, 4, 5, 6, 7, 8, 9, 10)                                         \
      instance(16, 8, 8, 9, 10, 11, 12, 13, 14)                                \
          instance(32, 16, 16, 17, 18, 19, 20, 21, 22)                         \
              instance(64, 32, 32, 33, 34, 35, 36, 37, 38)                     \
                  instance(96, 48, 48, 49, 50, 51, 52, 53, 54)                 \
                      instance(128, 64, 64, 65, 66, 67, 68, 69, 70)            \
                          instance(192, 96, 96, 97, 98, 99, 100, 101, 102)     \
                              instance(256, 128, 128, 129, 130, 131, 132, 133, \
                                       134)

#define TEMPER_HAS(n, ...) kColumns == n ||
template <int kColumns>
constexpr bool kHasWgmma = TEMPER_WGMMAS(TEMPER_HAS) false;
#undef TEMPER_HAS

// `use` is the operand that says whether to accumulate.
#define TEMPER_WGMMA(n, r, types, use, tail, ...)                              \
  if constexpr (kColumns == n) {                                               \
    asm volatile("{ .reg .pred p;\nsetp.ne.b32 p, %" #use                      \
                 ", 0;\n"                                                      \
                 "wgmma.mma_async.sync.aligned.m64n" #n types " {" TEMPER_P##r \
                 "}, " tail "; }"                                              \
                 : TEMPER_D##r(0)                                              \
                 : __VA_ARGS__);                                               \
  }

template <int kColumns, Major kAMajor = Major::kK, Major kBMajor = Major::kK>
TEMPER_PTX void WgmmaBf16(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
                          bool accumulate) {
  static_assert(kHasWgmma<kColumns>);
  constexpr int kA = kAMajor == Major::kRow, kB = kBMajor == Major::kRow;
#define TEMPER_ONE(n, r, o0, o1, o2, o3, o4, ...)                              \
  TEMPER_WGMMA(n, r, "k16.f32.bf16.bf16", o2,                                  \
               "%" #o0 ", %" #o1 ", p, 1, 1, %" #o3 ", %" #o4, "l"(a), "l"(b), \
               "r"(static_cast<int>(accumulate)), "n"(kA), "n"(kB))
  TEMPER_WGMMAS(TEMPER_ONE)
#undef TEMPER_ONE
}

template <int kColumns, Major kBMajor = Major::kK>
TEMPER_PTX void WgmmaBf16(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                          uint64_t b, bool accumulate) {
  static_assert(kHasWgmma<kColumns>);
  constexpr int kB = kBMajor == Major::kRow;
#define TEMPER_ONE(n, r, o0, o1, o2, o3, o4, o5, o6)               \
  TEMPER_WGMMA(n, r, "k16.f32.bf16.bf16", o5,                      \
               "{%" #o0 ", %" #o1 ", %" #o2 ", %" #o3 "}, %" #o4   \
               ", p, 1, 1, %" #o6,                                 \
               "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), \
               "r"(static_cast<int>(accumulate)), "n"(kB))
  TEMPER_WGMMAS(TEMPER_ONE)
#undef TEMPER_ONE
}

template <int kColumns>
TEMPER_PTX void WgmmaE4m3(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
                          bool accumulate) {
  static_assert(kHasWgmma<kColumns>);
#define TEMPER_ONE(n, r, o0, o1, o2, ...)                                    \
  TEMPER_WGMMA(n, r, "k32.f32.e4m3.e4m3", o2, "%" #o0 ", %" #o1 ", p, 1, 1", \
               "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))
  TEMPER_WGMMAS(TEMPER_ONE)
#undef TEMPER_ONE
}

template <int kColumns>
TEMPER_PTX void WgmmaE4m3(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                          uint64_t b, bool accumulate) {
  static_assert(kHasWgmma<kColumns>);
#define TEMPER_ONE(n, r, o0, o1, o2, o3, o4, o5, ...)                         \
  TEMPER_WGMMA(n, r, "k32.f32.e4m3.e4m3", o5,                                 \
               "{%" #o0 ", %" #o1 ", %" #o2 ", %" #o3 "}, %" #o4 ", p, 1, 1", \
               "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),            \
               "r"(static_cast<int>(accumulate)))
  TEMPER_WGMMAS(TEMPER_ONE)
#undef TEMPER_ONE
}
#undef TEMPER_WGMMA
#undef TEMPER_WGMMAS

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_PTX_WGMMA_H_
