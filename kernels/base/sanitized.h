// Whether this program is built for AddressSanitizer or ThreadSanitizer: it is
// then some ten times slower and several times larger, and what a test says of
// learning, time or memory says nothing.

#ifndef KERNELS_BASE_SANITIZED_H_
#define KERNELS_BASE_SANITIZED_H_

namespace temper {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace temper

#endif  // KERNELS_BASE_SANITIZED_H_
