// CRC-32C (Castagnoli) for what a disk or a wire may corrupt, SHA-256 for what
// must be the very same bytes. Pure functions and single-threaded objects.

#ifndef KERNELS_BASE_CHECKSUM_H_
#define KERNELS_BASE_CHECKSUM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

struct evp_md_ctx_st;

namespace temper {

// CRC-32C of `size` bytes at `data`. To continue over a next piece, pass the
// value so far as `crc`.
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);
inline uint32_t Crc32c(const std::string& data) {
  return Crc32c(data.data(), data.size());
}

using Sha256Digest = std::array<uint8_t, 32>;

// SHA-256 in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(const void* data, size_t size);
  // The 32 bytes; once, and nothing may be added after but by Restart.
  std::string Finish();
  Sha256Digest FinishDigest();
  // As new, without taking memory again.
  void Restart();

 private:
  evp_md_ctx_st* const context_;  // OpenSSL's
};

// The 32 bytes of SHA-256.
std::string Sha256Of(const void* data, size_t size);
inline std::string Sha256Of(const std::string& data) {
  return Sha256Of(data.data(), data.size());
}

// Lower-case hexadecimal of any bytes.
std::string HexOf(const std::string& bytes);

}  // namespace temper

#endif  // KERNELS_BASE_CHECKSUM_H_
