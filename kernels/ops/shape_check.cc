#include "kernels/ops/shape_check.h"

#include <bit>
#include <cstdint>
#include <initializer_list>

#include "absl/strings/str_join.h"
#include "kernels/base/log.h"
#include "kernels/ops/cache_rows.h"
#include "kernels/tensor/fp8.h"

namespace temper {
namespace {

constexpr int64_t kAny = -1;

// That x has these sizes, kAny where another tensor does not say one.
void Expect(const Tensor& x, std::initializer_list<int64_t> shape) {
  bool same = x.rank() == static_cast<int>(shape.size());
  int axis = 0;
  for (const int64_t size : shape) {
    same = same && (size == kAny || x.dim(axis) == size);
    ++axis;
  }
  CHECK(same) << x.DebugString() << " where [" << absl::StrJoin(shape, ", ")
              << "] is asked for";
}

void CheckTemperature(float temperature) { CHECK_GT(temperature, 0); }

void CheckMap(const KeyMap& map, int64_t queries) {
  Expect(map.sequence, {queries});
  Expect(map.position, {queries});
  Expect(map.blocks, {kAny, kAny});
  CHECK(map.page_tokens >= 1 &&
        std::has_single_bit(static_cast<uint32_t>(map.page_tokens)))
      << "page_tokens is " << map.page_tokens << ", not a power of two";
}

// Rows of a latent strip, or any number of them.
void ExpectLatentRows(const Tensor& x, int64_t rows, int64_t columns,
                      int64_t rope) {
  CHECK(rope >= 0 && rope <= columns) << rope << " of " << columns;
  const bool codes = x.dtype() == DType::kF8E4M3;
  Expect(x, {rows, codes ? LatentRowBytes(columns - rope, rope) : columns});
}

void ExpectIndexRows(const Tensor& x, int64_t rows, int64_t dims) {
  if (x.dtype() != DType::kF8E4M3) return Expect(x, {rows, dims});
  CHECK_LE(dims, kScaleBlock) << "an index key has one scale";
  Expect(x, {rows == kAny ? kAny : IndexPages(rows), IndexPageBytes(dims)});
}

template <typename Args>
void CheckMla(const Args& args) {
  Expect(args.q, {kAny, kAny, kAny});
  const int64_t n = args.q.dim(0), heads = args.q.dim(1);
  CheckMap(args.map, n);
  Expect(args.selected, {n, kAny});
  Expect(args.z, {n, heads, kAny});
  ExpectLatentRows(args.keys, kAny, args.q.dim(2),
                   args.q.dim(2) - args.z.dim(2));
  Expect(args.lse, {n, heads});
}

template <typename Args>
void CheckKl(const Args& args) {
  Expect(args.q, {kAny, kAny, kAny});
  const int64_t n = args.q.dim(0);
  ExpectLatentRows(args.keys, kAny, args.q.dim(2), args.rope);
  Expect(args.lse, {n, args.q.dim(1)});
  Expect(args.index_q, {n, kAny, kAny});
  Expect(args.index_w, {n, args.index_q.dim(1)});
  ExpectIndexRows(args.index_keys, args.keys.dim(0), args.index_q.dim(2));
  CheckMap(args.map, n);
  Expect(args.selected, {n, kAny});
}

template <typename Args>
void CheckHead(const Args& args, const WeightSpec& weight) {
  CHECK_EQ(weight.groups, 1);
  Expect(args.x, {kAny, weight.in});
  const int64_t n = args.x.dim(0);
  Expect(args.targets, {n});
  if (!args.kept_offsets.empty()) Expect(args.kept_offsets, {n + 1});
  if (!args.kept_ids.empty()) Expect(args.kept_ids, {kAny});
  Expect(args.lse, {n});
  CheckTemperature(args.temperature);
}

}  // namespace

int64_t ColumnsFrom(const WeightSpec& weight, Use use) {
  return use == Use::kForward ? weight.in : weight.out;
}

int64_t ColumnsTo(const WeightSpec& weight, Use use) {
  return use == Use::kForward ? weight.out : weight.in;
}

void CheckLinear(const Tensor& x, const WeightSpec& weight, Use use,
                 const Tensor& y) {
  CHECK_EQ(weight.groups, 1);
  Expect(x, {kAny, ColumnsFrom(weight, use)});
  Expect(y, {x.dim(0), ColumnsTo(weight, use)});
}

void CheckHeadLinear(const Tensor& x, const WeightSpec& weight, Use use,
                     const Tensor& y) {
  Expect(x, {kAny, weight.groups, ColumnsFrom(weight, use)});
  Expect(y, {x.dim(0), weight.groups, ColumnsTo(weight, use)});
}

void CheckGroupedLinear(const GroupedLinearArgs& args,
                        const WeightSpec& weight) {
  Expect(args.x, {kAny, ColumnsFrom(weight, args.use)});
  Expect(args.offsets, {weight.groups + 1});
  Expect(args.y, {args.x.dim(0), ColumnsTo(weight, args.use)});
}

void CheckWeightValues(const Tensor& values, const WeightSpec& weight) {
  Expect(values, {weight.groups, weight.out, weight.in});
}

void CheckScales(const Tensor& codes, const Tensor& scales) {
  Expect(codes, {kAny, kAny, kAny});
  Expect(scales,
         {codes.dim(0), ScaleBlocks(codes.dim(1)), ScaleBlocks(codes.dim(2))});
}

void CheckLinearWeightGrad(const WeightGradArgs& args) {
  Expect(args.x, {kAny, kAny});
  Expect(args.dy, {args.x.dim(0), kAny});
  Expect(args.dw, {args.dy.dim(1), args.x.dim(1)});
}

void CheckHeadLinearWeightGrad(const WeightGradArgs& args) {
  CHECK(args.operand != DType::kF8E4M3) << "heads have no scales";
  Expect(args.x, {kAny, kAny, kAny});
  Expect(args.dy, {args.x.dim(0), args.x.dim(1), kAny});
  Expect(args.dw, {args.x.dim(1), args.dy.dim(2), args.x.dim(2)});
}

void CheckShapes(const GroupedLinearWeightGradArgs& args) {
  Expect(args.x, {kAny, kAny});
  Expect(args.dy, {args.x.dim(0), kAny});
  Expect(args.dw, {kAny, args.dy.dim(1), args.x.dim(1)});
  Expect(args.offsets, {args.dw.dim(0) + 1});
}

void CheckCopyable(const Tensor& from, const Tensor& to) {
  const auto are = [&](DType a, DType b) {
    return from.dtype() == a && to.dtype() == b;
  };
  CHECK(from.dtype() == to.dtype() || are(DType::kF32, DType::kBF16) ||
        are(DType::kBF16, DType::kF32))
      << from.DebugString() << " to " << to.DebugString();
}

void CheckSameShape(const Tensor& a, const Tensor& b) {
  bool same = a.rank() == b.rank();
  for (int axis = 0; same && axis < a.rank(); ++axis) {
    same = a.dim(axis) == b.dim(axis);
  }
  CHECK(same) << a.DebugString() << " and " << b.DebugString();
}

void CheckEmbedBackward(const Tensor& ids, const Tensor& dx,
                        const Tensor& dtable) {
  Expect(dtable, {kAny, kAny});
  Expect(dx, {kAny, dtable.dim(1)});
  Expect(ids, {dx.dim(0)});
}

void CheckRmsNorm(const Tensor& x, const Tensor& w, const Tensor& y) {
  Expect(x, {kAny, kAny});
  Expect(w, {x.dim(1)});
  CheckSameShape(x, y);
}

void CheckShapes(const RmsNormBackwardArgs& args) {
  CheckRmsNorm(args.x, args.w, args.dx);
  CheckSameShape(args.x, args.dy);
  CheckSameShape(args.w, args.dw);
}

void CheckShapes(const LayerNormArgs& args) {
  CheckRmsNorm(args.x, args.w, args.y);
  CheckSameShape(args.w, args.b);
}

void CheckShapes(const LayerNormBackwardArgs& args) {
  CheckRmsNorm(args.x, args.w, args.dx);
  CheckSameShape(args.x, args.dy);
  CheckSameShape(args.w, args.dw);
  CheckSameShape(args.w, args.db);
}

void CheckHadamard(const Tensor& x) {
  Expect(x, {kAny, kAny, kAny});
  CHECK(std::has_single_bit(static_cast<uint64_t>(x.dim(2))))
      << x.DebugString();
}

void CheckRope(const Tensor& x, const Tensor& position, const Tensor& cos_sin) {
  Expect(x, {kAny, kAny, kAny});
  Expect(position, {x.dim(0)});
  Expect(cos_sin, {kAny, x.dim(2)});
  CHECK(x.dim(2) % 2 == 0 && x.dim(2) <= kRopeDimsMax) << x.DebugString();
}

void CheckShapes(const SwiGluBackwardArgs& args) {
  for (const Tensor* x : {&args.up, &args.dh, &args.dgate, &args.dup}) {
    CheckSameShape(args.gate, *x);
  }
}

void CheckShapes(const WriteKeysArgs& args) {
  Expect(args.latent, {kAny, kAny});
  Expect(args.index_keys, {args.latent.dim(0), kAny});
  Expect(args.slot, {args.latent.dim(0)});
  ExpectLatentRows(args.latent_strip, kAny, args.latent.dim(1), args.rope);
  ExpectIndexRows(args.index_strip, kAny, args.index_keys.dim(1));
}

void CheckShapes(const IndexerSelectArgs& args) {
  Expect(args.q, {kAny, kAny, kAny});
  const int64_t n = args.q.dim(0);
  Expect(args.w, {n, args.q.dim(1)});
  ExpectIndexRows(args.keys, kAny, args.q.dim(2));
  CheckMap(args.map, n);
  Expect(args.selected, {n, kAny});
  if (!args.scores.empty()) Expect(args.scores, {n, kAny});
}

void CheckShapes(const SparseMlaArgs& args) { CheckMla(args); }

void CheckShapes(const SparseMlaBackwardArgs& args) {
  CheckMla(args);
  CheckSameShape(args.z, args.dz);
  CheckSameShape(args.q, args.dq);
  Expect(args.dkeys, {args.keys.dim(0), args.q.dim(2)});
}

void CheckShapes(const IndexerKlArgs& args) {
  CheckKl(args);
  Expect(args.kl, {args.q.dim(0)});
}

void CheckShapes(const IndexerKlBackwardArgs& args) {
  CheckKl(args);
  Expect(args.dkl, {args.q.dim(0)});
  CheckSameShape(args.index_q, args.dindex_q);
  CheckSameShape(args.index_w, args.dindex_w);
  Expect(args.dindex_keys, {args.keys.dim(0), args.index_q.dim(2)});
}

void CheckShapes(const MoeGateArgs& args) {
  Expect(args.logits, {kAny, kAny});
  const int64_t n = args.logits.dim(0), experts = args.logits.dim(1);
  Expect(args.bias, {experts});
  CheckSameShape(args.logits, args.scores);
  Expect(args.routes, {n, kAny});
  CheckSameShape(args.routes, args.gates);
  const int64_t slots = args.routes.dim(1);
  const GateOptions& options = args.options;
  CHECK(options.n_group >= 1 && experts % options.n_group == 0 &&
        options.topk_group >= 1 && options.topk_group <= options.n_group &&
        slots <= experts / options.n_group * options.topk_group)
      << slots << " of " << experts << " experts from " << options.topk_group
      << " of " << options.n_group << " groups";
  if (args.strip.empty()) return;
  Expect(args.strip, {kAny, slots});
  Expect(args.slot, {n});
}

void CheckShapes(const MoeGateBackwardArgs& args) {
  Expect(args.scores, {kAny, kAny});
  Expect(args.routes, {args.scores.dim(0), kAny});
  CheckSameShape(args.routes, args.dgates);
  CheckSameShape(args.scores, args.dlogits);
}

void CheckShapes(const MoePlanArgs& args) {
  Expect(args.routes, {kAny, kAny});
  Expect(args.offsets, {kAny});
  CHECK_GE(args.offsets.dim(0), 1) << args.offsets.DebugString();
  Expect(args.rows, {args.routes.elements()});
  CheckSameShape(args.routes, args.place);
}

void CheckShapes(const MoeCombineArgs& args) {
  Expect(args.y, {kAny, kAny});
  Expect(args.x, {kAny, args.y.dim(1)});
  Expect(args.place, {args.y.dim(0), kAny});
  if (!args.gates.empty()) CheckSameShape(args.place, args.gates);
}

void CheckShapes(const MoeCombineBackwardArgs& args) {
  Expect(args.dy, {kAny, kAny});
  Expect(args.x, {kAny, args.dy.dim(1)});
  CheckSameShape(args.x, args.dx);
  Expect(args.place, {args.dy.dim(0), kAny});
  CheckSameShape(args.place, args.gates);
  CheckSameShape(args.place, args.dgates);
}

void CheckShapes(const LogProbArgs& args, const WeightSpec& weight) {
  CheckHead(args, weight);
  CheckSameShape(args.lse, args.logp);
  CheckSameShape(args.lse, args.entropy);
}

void CheckShapes(const LogProbBackwardArgs& args, const WeightSpec& weight) {
  CheckHead(args, weight);
  CheckSameShape(args.lse, args.dlogp);
  CheckSameShape(args.x, args.dx);
  Expect(args.dw, {weight.out, weight.in});
}

void CheckDrawWords(const Tensor& rows, const Tensor& words) {
  Expect(rows, {kAny, kSampleRowInts});
  Expect(words, {rows.dim(0)});
}

void CheckShapes(const SampleArgs& args) {
  // A vocabulary whose masses 64 bits can sum.
  constexpr int64_t kVocabularyMax = int64_t{1} << 23;
  Expect(args.logits, {kAny, kAny});
  const int64_t n = args.logits.dim(0);
  CHECK(args.logits.dim(1) >= 1 && args.logits.dim(1) < kVocabularyMax)
      << args.logits.DebugString();
  Expect(args.rows, {n, kSampleRowInts});
  for (const Tensor* x :
       {&args.words, &args.ids, &args.logp, &args.kept_counts}) {
    Expect(*x, {n});
  }
  Expect(args.kept_ids, {n, kAny});
}

void CheckShapes(const AdamWTensor& tensor) {
  for (const Tensor* x : {&tensor.grad, &tensor.p, &tensor.m, &tensor.v}) {
    CHECK(x->contiguous() && x->dtype() == DType::kF32) << x->DebugString();
    CHECK_EQ(x->elements(), tensor.p.elements());
  }
}

}  // namespace temper
