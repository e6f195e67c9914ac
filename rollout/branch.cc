#include "rollout/branch.h"

#include <string>
#include <vector>

#include "kernels/base/log.h"
#include "proto/wire/packed_array.h"

namespace temper {
namespace {

template <typename T>
std::string NarrowRoutes(const std::vector<int32_t>& routes, size_t count) {
  std::vector<T> narrow(routes.begin(), routes.begin() + count);
  return PackArray(narrow);
}

}  // namespace

Branch PackBranch(const SequenceRecord& record, const ModelConfig& config) {
  CHECK(record.sampled_count() > 0) << "nothing was sampled";
  int64_t size = record.size();
  // What follows the last sampled token conditions nothing that is trained.
  while (record.sampled[size - 1] == 0) --size;
  // The last token was sampled and never fed: it has no route, and needs none.
  CHECK(record.fed() >= size - 1)
      << "routes of " << record.fed() << " tokens of " << size;

  Branch branch;
  branch.set_tokens(PackArray(record.tokens.data(), size));
  branch.set_sampled(PackBits(record.sampled, size));
  branch.set_logprobs(PackArray(record.logprobs));
  branch.set_kept_offsets(PackArray(record.kept_offsets));
  branch.set_kept_ids(PackArray(record.kept_ids));
  const size_t routes =
      (size - 1) * config.moe_layers() * config.num_experts_per_tok;
  CHECK(record.routes.size() >= routes) << "the record is in mid-turn";
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
