#include "rollout/branch.h"

#include <bit>
#include <string>
#include <vector>

#include "kernels/base/log.h"

namespace temper {
namespace {

static_assert(std::endian::native == std::endian::little,
              "records are little-endian");

template <typename T>
std::string Bytes(const T* data, size_t count) {
  return std::string(reinterpret_cast<const char*>(data), count * sizeof(T));
}

template <typename T>
std::string NarrowRoutes(const std::vector<int32_t>& routes, size_t count) {
  std::vector<T> narrow(routes.begin(), routes.begin() + count);
  return Bytes(narrow.data(), narrow.size());
}

}  // namespace

Branch PackBranch(const SequenceRecord& record, const ModelConfig& config) {
  CHECK(record.sampled_count() > 0) << "nothing was sampled";
  int64_t size = record.size();
  while (record.sampled[size - 1] == 0) --size;
  CHECK(record.fed() >= size - 1)
      << "routes of " << record.fed() << " tokens of " << size;

  Branch branch;
  branch.set_tokens(Bytes(record.tokens.data(), size));
  std::string bitmap((size + 7) / 8, '\0');
  for (int64_t t = 0; t < size; ++t) {
    if (record.sampled[t]) bitmap[t / 8] |= static_cast<char>(1 << (t % 8));
  }
  branch.set_sampled(bitmap);
  branch.set_logprobs(Bytes(record.logprobs.data(), record.logprobs.size()));
  branch.set_kept_offsets(
      Bytes(record.kept_offsets.data(), record.kept_offsets.size()));
  branch.set_kept_ids(Bytes(record.kept_ids.data(), record.kept_ids.size()));
  const size_t routes =
      (size - 1) * config.moe_layers() * config.num_experts_per_tok;
  branch.set_route_bytes(static_cast<uint32_t>(config.route_bytes()));
  branch.set_routes(config.route_bytes() == 1
                        ? NarrowRoutes<uint8_t>(record.routes, routes)
                        : NarrowRoutes<uint16_t>(record.routes, routes));
  for (uint32_t i = 0; i < record.versions.size(); ++i) {
    if (i == 0 || record.versions[i] != record.versions[i - 1]) {
      VersionSpan* const span = branch.add_versions();
      span->set_begin(i);
      span->set_version(record.versions[i]);
    }
    branch.mutable_versions()->rbegin()->set_end(i + 1);
  }
  return branch;
}

}  // namespace temper
