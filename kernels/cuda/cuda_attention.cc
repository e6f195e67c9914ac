// Attention and the indexer of CudaBackend. What needs scratch for each query
// goes in chunks of them, in order.

#include <algorithm>

#include "kernels/base/log.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device_rows.h"
#include "kernels/cuda/indexer.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

using cuda::GroupedRowsOf;
using cuda::KeyRecords;
using cuda::Keys;
using cuda::RowsOf;
using cuda::ScratchPlan;
using cuda::VectorOf;

// Records of a chunk of queries, with what of them an operation wants.
class RecordsPlan {
 public:
  struct Wants {
    bool p = false;
    bool ds = false;
    bool place = false;
  };

  // Of `heads` and lists of `width` over a strip of `rows`.
  RecordsPlan(const Wants& wants, int64_t heads, int64_t width, int64_t rows)
      : wants_(wants), heads_(heads), width_(width), rows_(rows) {}

  int64_t bytes_each() const {
    const int64_t lists = (wants_.p ? 1 : 0) + (wants_.ds ? 1 : 0);
    return 4 *
           (lists * heads_ * width_ + width_ + 1 + (wants_.place ? rows_ : 0));
  }

  void AddTo(ScratchPlan* plan, int64_t queries) {
    const int64_t list = queries * heads_ * width_;
    p_ = plan->Add<float>(wants_.p ? list : 0);
    ds_ = plan->Add<float>(wants_.ds ? list : 0);
    rows_of_ = plan->Add<int32_t>(queries * width_);
    count_ = plan->Add<int32_t>(queries);
    place_ = plan->Add<int32_t>(wants_.place ? queries * rows_ : 0);
  }

  KeyRecords In(char* scratch, int64_t first, int64_t queries) const {
    return {.p = wants_.p ? p_.in(scratch) : nullptr,
            .ds = wants_.ds ? ds_.in(scratch) : nullptr,
            .rows = rows_of_.in(scratch),
            .count = count_.in(scratch),
            .place = wants_.place ? place_.in(scratch) : nullptr,
            .first = first,
            .queries = queries,
            .heads = heads_,
            .width = width_};
  }

 private:
  const Wants wants_;
  const int64_t heads_, width_, rows_;
  ScratchPlan::Piece<float> p_ = {}, ds_ = {};
  ScratchPlan::Piece<int32_t> rows_of_ = {}, count_ = {}, place_ = {};
};

// Scratch of the KL loss beside the records.
struct KlPlan {
  void AddTo(ScratchPlan* plan, int64_t queries, int64_t width, int64_t heads,
             bool backward) {
    target = plan->Add<float>(queries * width);
    score = plan->Add<float>(queries * width);
    products = plan->Add<float>(backward ? queries * heads * width : 0);
    sums = plan->Add<double>(queries);
  }
  ScratchPlan::Piece<float> target = {}, score = {}, products = {};
  ScratchPlan::Piece<double> sums = {};
};

template <typename Args>
cuda::KlArgs KlArgsOf(const Args& args, const KeyRecords& records,
                      const KlPlan& plan, char* scratch, bool backward) {
  return {.q = GroupedRowsOf<const float>(args.q),
          .keys = RowsOf<const float>(args.keys),
          .scale = args.scale,
          .lse = RowsOf<const float>(args.lse),
          .index_q = GroupedRowsOf<const float>(args.index_q),
          .index_w = RowsOf<const float>(args.index_w),
          .index_keys = RowsOf<const float>(args.index_keys),
          .records = records,
          .target = plan.target.in(scratch),
          .score = plan.score.in(scratch),
          .products = backward ? plan.products.in(scratch) : nullptr,
          .sums = plan.sums.in(scratch)};
}

}  // namespace

void CudaBackend::SparseMla(const SparseMlaArgs& args) {
  CheckShapes(args);
  cuda::SparseMla({.q = GroupedRowsOf<const float>(args.q),
                   .keys = RowsOf<const float>(args.keys),
                   .map = cuda::KeysOf(args.map, args.keys.dim(0), fault()),
                   .selected = RowsOf<const int32_t>(args.selected),
                   .scale = args.scale,
                   .z = GroupedRowsOf<float>(args.z),
                   .lse = RowsOf<float>(args.lse)},
                  stream());
}

void CudaBackend::SparseMlaBackward(const SparseMlaBackwardArgs& args) {
  CheckShapes(args);
  const cuda::MlaGrads grads = {.q = GroupedRowsOf<const float>(args.q),
                                .keys = RowsOf<const float>(args.keys),
                                .scale = args.scale,
                                .z = GroupedRowsOf<const float>(args.z),
                                .lse = RowsOf<const float>(args.lse),
                                .dz = GroupedRowsOf<const float>(args.dz)};
  const Keys map = cuda::KeysOf(args.map, args.keys.dim(0), fault());
  const auto selected = RowsOf<const int32_t>(args.selected);
  const auto dq = GroupedRowsOf<float>(args.dq);
  const auto dkeys = RowsOf<float>(args.dkeys);
  RecordsPlan records({.p = true, .ds = true, .place = true}, grads.q.groups,
                      selected.columns, dkeys.rows);
  const int64_t chunk = ChunkOf(grads.q.rows, records.bytes_each());
  ScratchPlan plan;
  records.AddTo(&plan, chunk);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  for (int64_t first = 0; first < grads.q.rows; first += chunk) {
    const KeyRecords part =
        records.In(scratch, first, std::min(chunk, grads.q.rows - first));
    cuda::FillKeyRecords(map, selected, part, stream());
    cuda::MlaScoreGrads(grads, part, stream());
    cuda::SumKeys(part, grads.keys, dq, stream());
    cuda::AddToKeys(
        {.records = part, .b = grads.q, .d = grads.dz, .dkeys = dkeys},
        stream());
  }
}

void CudaBackend::IndexerSelect(const IndexerSelectArgs& args) {
  CheckShapes(args);
  cuda::SelectArgs select = {
      .q = GroupedRowsOf<const float>(args.q),
      .w = RowsOf<const float>(args.w),
      .keys = RowsOf<const float>(args.keys),
      .map = cuda::KeysOf(args.map, args.keys.dim(0), fault()),
      .tap = !args.scores.empty(),
      .selected = RowsOf<int32_t>(args.selected)};
  const int64_t queries = select.q.rows;
  if (select.tap) {
    select.queries = queries;
    select.scores = RowsOf<float>(args.scores);
    return cuda::IndexerSelect(select, stream());
  }
  if (select.selected.columns == 0) return;
  // All keys that a table can name: how many there are the device knows.
  const int64_t keys_max = args.map.blocks.dim(1) * args.map.page_tokens;
  const int64_t chunk =
      ChunkOf(queries, keys_max * static_cast<int64_t>(sizeof(float)));
  ScratchPlan plan;
  const auto scores = plan.Add<float>(chunk * keys_max);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  for (int64_t first = 0; first < queries; first += chunk) {
    select.first = first;
    select.queries = std::min(chunk, queries - first);
    select.scores = {scores.in(scratch), select.queries, keys_max, keys_max};
    cuda::IndexerSelect(select, stream());
  }
}

void CudaBackend::IndexerKl(const IndexerKlArgs& args) {
  CheckShapes(args);
  const Keys map = cuda::KeysOf(args.map, args.keys.dim(0), fault());
  const auto selected = RowsOf<const int32_t>(args.selected);
  const int64_t queries = selected.rows, width = selected.columns;
  float* const kl = VectorOf<float>(args.kl);
  RecordsPlan records({}, args.index_q.dim(1), width, args.keys.dim(0));
  const int64_t chunk = ChunkOf(queries, records.bytes_each() + 8 * width);
  ScratchPlan plan;
  KlPlan loss;
  records.AddTo(&plan, chunk);
  loss.AddTo(&plan, chunk, width, args.index_q.dim(1), /*backward=*/false);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  for (int64_t first = 0; first < queries; first += chunk) {
    const KeyRecords part =
        records.In(scratch, first, std::min(chunk, queries - first));
    cuda::FillKeyRecords(map, selected, part, stream());
    cuda::IndexerKl(KlArgsOf(args, part, loss, scratch, /*backward=*/false), kl,
                    stream());
  }
}

void CudaBackend::IndexerKlBackward(const IndexerKlBackwardArgs& args) {
  CheckShapes(args);
  const Keys map = cuda::KeysOf(args.map, args.keys.dim(0), fault());
  const auto selected = RowsOf<const int32_t>(args.selected);
  const int64_t queries = selected.rows, width = selected.columns;
  const int64_t heads = args.index_q.dim(1);
  const float* const dkl = VectorOf<const float>(args.dkl);
  const auto dq = GroupedRowsOf<float>(args.dindex_q);
  const auto dw = RowsOf<float>(args.dindex_w);
  const auto dkeys = RowsOf<float>(args.dindex_keys);
  RecordsPlan records({.ds = true, .place = true}, heads, width, dkeys.rows);
  const int64_t chunk =
      ChunkOf(queries, records.bytes_each() + 4 * (2 + heads) * width);
  ScratchPlan plan;
  KlPlan loss;
  records.AddTo(&plan, chunk);
  loss.AddTo(&plan, chunk, width, heads, /*backward=*/true);
  char* const scratch = Scratch(plan.bytes());
  if (scratch == nullptr) return;
  for (int64_t first = 0; first < queries; first += chunk) {
    const KeyRecords part =
        records.In(scratch, first, std::min(chunk, queries - first));
    const cuda::KlArgs kl =
        KlArgsOf(args, part, loss, scratch, /*backward=*/true);
    cuda::FillKeyRecords(map, selected, part, stream());
    cuda::IndexerKl(kl, nullptr, stream());
    cuda::IndexerKlGrads(kl, dkl, dw, stream());
    cuda::SumKeys(part, kl.index_keys, dq, stream());
    cuda::AddToKeys({.records = part, .b = kl.index_q, .dkeys = dkeys},
                    stream());
  }
}

}  // namespace temper
