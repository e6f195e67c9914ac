#include "kernels/base/checksum.h"

#include <array>
#include <cstring>

#include "kernels/base/log.h"
#include "openssl/evp.h"

namespace temper {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78u;  // Castagnoli, reflected

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// Slicing by 8: table k is the effect of a byte followed by k zero bytes.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    }
    tables[0][byte] = crc;
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    for (size_t k = 1; k < tables.size(); ++k) {
      const uint32_t previous = tables[k - 1][byte];
      tables[k][byte] = (previous >> 8) ^ tables[0][previous & 0xff];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

uint32_t Crc32c(const void* data, size_t size, uint32_t crc) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  // The ones at both ends are the standard's: without them leading zero bytes
  // would not change the sum.
  crc = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) {
    uint32_t low;
    uint32_t high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 4, 4);
    // Bytes are taken as little-endian words, which a CPU of ours is.
    low ^= crc;
    crc = kTables[7][low & 0xff] ^ kTables[6][(low >> 8) & 0xff] ^
          kTables[5][(low >> 16) & 0xff] ^ kTables[4][low >> 24] ^
          kTables[3][high & 0xff] ^ kTables[2][(high >> 8) & 0xff] ^
          kTables[1][(high >> 16) & 0xff] ^ kTables[0][high >> 24];
  }
  for (; size > 0; --size, ++bytes) {
    crc = (crc >> 8) ^ kTables[0][(crc ^ *bytes) & 0xff];
  }
  return ~crc;
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  CHECK(context_ != nullptr);
  Restart();
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::Restart() {
  // OpenSSL fails here only for want of memory, and nobody could go on without
  // a digest: the callers compare identities by it.
  CHECK_EQ(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr), 1);
}

void Sha256::Update(const void* data, size_t size) {
  CHECK_EQ(EVP_DigestUpdate(context_, data, size), 1);
}

Sha256Digest Sha256::FinishDigest() {
  Sha256Digest digest;
  // The context is spent: a second Finish would be OpenSSL's error, our CHECK.
  CHECK_EQ(EVP_DigestFinal_ex(context_, digest.data(), nullptr), 1);
  return digest;
}

std::string Sha256::Finish() {
  const Sha256Digest digest = FinishDigest();
  return std::string(digest.begin(), digest.end());
}

std::string Sha256Of(const void* data, size_t size) {
  Sha256 sha;
  sha.Update(data, size);
  return sha.Finish();
}

std::string HexOf(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const unsigned char byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

}  // namespace temper
