// Limits and checks of the weight wire (proto/weights.proto) that both ends
// share.
//
// Constants, and functions without state, thread-safe. A manifest comes from
// another process: nothing of it is believed before it was checked.

#ifndef PROTO_WIRE_WEIGHT_WIRE_H_
#define PROTO_WIRE_WEIGHT_WIRE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "proto/weights.pb.h"

namespace temper {

inline constexpr uint32_t kWeightWireVersion = 1;
inline constexpr uint32_t kWeightChunkBytesMax = 1 << 20;
inline constexpr int64_t kWeightRequestBytesMax = 4096;
inline constexpr int64_t kWeightReplyBytesMax = int64_t{32} << 20;
inline constexpr int kWeightTensorsMax = 1 << 20;

// Bytes of one element of a type by its name on the wire ("F32", "BF16"), or 0.
uint64_t WeightTypeBytes(const std::string& dtype);

// Whether `manifest` describes a version that can be received: its wire
// version and run, tensors in the order of their bytes with nothing between
// them, sizes that follow from shape and type, at most `bytes_max` in all.
// InvalidArgument names what is wrong.
absl::Status CheckWeightManifest(const WeightManifest& manifest,
                                 const std::string& run, uint64_t version,
                                 uint64_t bytes_max);

// DataLoss names the first tensor whose bytes are not the manifest's, or says
// that the whole's SHA-256 differs. `bytes` are manifest.total_bytes() long.
absl::Status VerifyWeights(const WeightManifest& manifest, const void* bytes);

}  // namespace temper

#endif  // PROTO_WIRE_WEIGHT_WIRE_H_
