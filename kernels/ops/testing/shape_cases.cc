// The shapes that kernels/ops/op_arguments.h and attention_arguments.h state
// are held by every backend: one tensor of an operation larger by one along one
// axis, where the others say its size, is our own bug and ends the process. A
// loop would read or write past an end.

#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/ops/testing/op_case.h"

namespace temper {
namespace {

// Letters of the argument files, each of another size.
constexpr int64_t N = 3, in = 4, out = 5, E = 6, A = 2, D = 7, V = 8, H = 9;
constexpr int64_t C = 10, R = 2, Hi = 11, Di = 12, K = 13, kRows = 70;

// Memory of its own for every tensor, and more of it than any is given.
class Memory {
 public:
  Tensor F(std::initializer_list<int64_t> shape) {
    floats_.push_back(std::make_unique<Floats>(1 << 13, 0.5f));
    return View(*floats_.back(), shape);
  }
  // Begins with `values`, then goes on in zeros.
  Tensor I(std::initializer_list<int64_t> shape, Ints values = {}) {
    values.resize(1 << 13, 0);
    ints_.push_back(std::make_unique<Ints>(std::move(values)));
    return View(*ints_.back(), shape);
  }

 private:
  std::vector<std::unique_ptr<Floats>> floats_;
  std::vector<std::unique_ptr<Ints>> ints_;
};

Tensor Grown(const Tensor& x, int axis) {
  int64_t dim[3] = {1, 1, 1};
  for (int i = 0; i < x.rank(); ++i) dim[i] = x.dim(i) + (i == axis);
  switch (x.rank()) {
    case 1:
      return Tensor(x.data(), x.dtype(), {dim[0]});
    case 2:
      return Tensor(x.data(), x.dtype(), {dim[0], dim[1]});
    default:
      return Tensor(x.data(), x.dtype(), {dim[0], dim[1], dim[2]});
  }
}

template <typename Args>
struct Sized {
  const char* name;
  Tensor Args::*tensor;
  std::vector<int> axes;  // that the other tensors fix
};

template <typename Args>
void ExpectShapesAreHeld(void (Backend::*run)(const Args&), const Args& good,
                         const std::vector<Sized<Args>>& tensors) {
  Backend& backend = Definition();
  (backend.*run)(good);
  for (const Sized<Args>& sized : tensors) {
    for (const int axis : sized.axes) {
      Args bad = good;
      bad.*sized.tensor = Grown(good.*sized.tensor, axis);
      EXPECT_DEATH((backend.*run)(bad), "CHECK ")
          << sized.name << ", axis " << axis;
    }
  }
}

TEST(ShapeTest, OfGroupedProductsAndGradients) {
  Memory m;
  const auto w = Pack(Definition(), Floats(E * out * in, 1), E, out, in);
  const Ints ends = {0, 1, 2, 2, 2, 2, N};
  using L = GroupedLinearArgs;
  ExpectShapesAreHeld<L>(&Backend::GroupedLinear,
                         {.x = m.F({N, in}),
                          .offsets = m.I({E + 1}, ends),
                          .w = w.get(),
                          .y = m.F({N, out})},
                         {{"x", &L::x, {0, 1}},
                          {"offsets", &L::offsets, {0}},
                          {"y", &L::y, {0, 1}}});
  using W = WeightGradArgs;
  ExpectShapesAreHeld<W>(
      &Backend::LinearWeightGrad,
      {.x = m.F({N, in}), .dy = m.F({N, out}), .dw = m.F({out, in})},
      {{"x", &W::x, {0, 1}}, {"dy", &W::dy, {0, 1}}, {"dw", &W::dw, {0, 1}}});
  ExpectShapesAreHeld<W>(
      &Backend::HeadLinearWeightGrad,
      {.x = m.F({N, H, in}), .dy = m.F({N, H, out}), .dw = m.F({H, out, in})},
      {{"x", &W::x, {0, 1, 2}},
       {"dy", &W::dy, {0, 1, 2}},
       {"dw", &W::dw, {0, 1, 2}}});
  using G = GroupedLinearWeightGradArgs;
  ExpectShapesAreHeld<G>(&Backend::GroupedLinearWeightGrad,
                         {.x = m.F({N, in}),
                          .dy = m.F({N, out}),
                          .offsets = m.I({E + 1}, ends),
                          .dw = m.F({E, out, in})},
                         {{"x", &G::x, {0, 1}},
                          {"dy", &G::dy, {0, 1}},
                          {"offsets", &G::offsets, {0}},
                          {"dw", &G::dw, {0, 1, 2}}});
}

TEST(ShapeTest, OfNormsAndSwiGlu) {
  Memory m;
  using B = RmsNormBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::RmsNormBackward,
                         {.x = m.F({N, D}),
                          .w = m.F({D}),
                          .eps = 1e-6f,
                          .dy = m.F({N, D}),
                          .dx = m.F({N, D}),
                          .dw = m.F({D})},
                         {{"x", &B::x, {0, 1}},
                          {"w", &B::w, {0}},
                          {"dy", &B::dy, {0, 1}},
                          {"dx", &B::dx, {0, 1}},
                          {"dw", &B::dw, {0}}});
  using L = LayerNormArgs;
  ExpectShapesAreHeld<L>(&Backend::LayerNorm,
                         {.x = m.F({N, D}),
                          .w = m.F({D}),
                          .b = m.F({D}),
                          .eps = 1e-6f,
                          .y = m.F({N, D})},
                         {{"x", &L::x, {0, 1}},
                          {"w", &L::w, {0}},
                          {"b", &L::b, {0}},
                          {"y", &L::y, {0, 1}}});
  using G = LayerNormBackwardArgs;
  ExpectShapesAreHeld<G>(&Backend::LayerNormBackward,
                         {.x = m.F({N, D}),
                          .w = m.F({D}),
                          .eps = 1e-6f,
                          .dy = m.F({N, D}),
                          .dx = m.F({N, D}),
                          .dw = m.F({D}),
                          .db = m.F({D})},
                         {{"x", &G::x, {0, 1}},
                          {"w", &G::w, {0}},
                          {"dy", &G::dy, {0, 1}},
                          {"dx", &G::dx, {0, 1}},
                          {"dw", &G::dw, {0}},
                          {"db", &G::db, {0}}});
  using S = SwiGluBackwardArgs;
  ExpectShapesAreHeld<S>(&Backend::SwiGluBackward,
                         {.gate = m.F({N, D}),
                          .up = m.F({N, D}),
                          .dh = m.F({N, D}),
                          .dgate = m.F({N, D}),
                          .dup = m.F({N, D})},
                         {{"gate", &S::gate, {0, 1}},
                          {"up", &S::up, {0, 1}},
                          {"dh", &S::dh, {0, 1}},
                          {"dgate", &S::dgate, {0, 1}},
                          {"dup", &S::dup, {0, 1}}});
}

TEST(ShapeTest, OfTheMixtureOfExperts) {
  Memory m;
  const Ints routes = {0, 1, 2, 3, 4, 5};
  using G = MoeGateArgs;
  ExpectShapesAreHeld<G>(&Backend::MoeGate,
                         {.logits = m.F({N, E}),
                          .bias = m.F({E}),
                          .scores = m.F({N, E}),
                          .routes = m.I({N, A}, routes),
                          .gates = m.F({N, A})},
                         {{"logits", &G::logits, {0, 1}},
                          {"bias", &G::bias, {0}},
                          {"scores", &G::scores, {0, 1}},
                          {"routes", &G::routes, {0, 1}},
                          {"gates", &G::gates, {0, 1}}});
  using B = MoeGateBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::MoeGateBackward,
                         {.scores = m.F({N, E}),
                          .routes = m.I({N, A}, routes),
                          .dgates = m.F({N, A}),
                          .dlogits = m.F({N, E})},
                         {{"scores", &B::scores, {0, 1}},
                          {"routes", &B::routes, {0, 1}},
                          {"dgates", &B::dgates, {0, 1}},
                          {"dlogits", &B::dlogits, {0, 1}}});
  using P = MoePlanArgs;
  ExpectShapesAreHeld<P>(&Backend::MoePlan,
                         {.routes = m.I({N, A}, routes),
                          .offsets = m.I({E + 1}),
                          .rows = m.I({N * A}),
                          .place = m.I({N, A})},
                         {{"routes", &P::routes, {0, 1}},
                          {"rows", &P::rows, {0}},
                          {"place", &P::place, {0, 1}}});
  using M = MoeCombineArgs;
  ExpectShapesAreHeld<M>(&Backend::MoeCombine,
                         {.x = m.F({N * A, D}),
                          .place = m.I({N, A}),
                          .gates = m.F({N, A}),
                          .y = m.F({N, D})},
                         {{"x", &M::x, {1}},
                          {"place", &M::place, {0, 1}},
                          {"gates", &M::gates, {0, 1}},
                          {"y", &M::y, {0, 1}}});
  using D2 = MoeCombineBackwardArgs;
  ExpectShapesAreHeld<D2>(&Backend::MoeCombineBackward,
                          {.x = m.F({N * A, D}),
                           .place = m.I({N, A}),
                           .gates = m.F({N, A}),
                           .dy = m.F({N, D}),
                           .dx = m.F({N * A, D}),
                           .dgates = m.F({N, A})},
                          {{"x", &D2::x, {0, 1}},
                           {"place", &D2::place, {0, 1}},
                           {"gates", &D2::gates, {0, 1}},
                           {"dy", &D2::dy, {0, 1}},
                           {"dx", &D2::dx, {0, 1}},
                           {"dgates", &D2::dgates, {0, 1}}});
}

// Rows that are sampled as they are.
Tensor SampleRows(Memory* m) {
  const std::vector<SampleRow> rows(N);
  Ints ints(N * kSampleRowInts);
  std::memcpy(ints.data(), rows.data(), ints.size() * sizeof(int32_t));
  return m->I({N, kSampleRowInts}, std::move(ints));
}

TEST(ShapeTest, OfTheHead) {
  Memory m;
  const auto w = Pack(Definition(), Floats(V * D, 1), 1, V, D);
  using L = LogProbArgs;
  ExpectShapesAreHeld<L>(&Backend::LogProb,
                         {.x = m.F({N, D}),
                          .w = w.get(),
                          .targets = m.I({N}),
                          .kept_offsets = m.I({N + 1}),
                          .kept_ids = m.I({1}),
                          .logp = m.F({N}),
                          .lse = m.F({N}),
                          .entropy = m.F({N})},
                         {{"x", &L::x, {0, 1}},
                          {"targets", &L::targets, {0}},
                          {"kept_offsets", &L::kept_offsets, {0}},
                          {"logp", &L::logp, {0}},
                          {"lse", &L::lse, {0}},
                          {"entropy", &L::entropy, {0}}});
  using B = LogProbBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::LogProbBackward,
                         {.x = m.F({N, D}),
                          .w = w.get(),
                          .targets = m.I({N}),
                          .kept_offsets = m.I({N + 1}),
                          .kept_ids = m.I({1}),
                          .lse = m.F({N}),
                          .dlogp = m.F({N}),
                          .dx = m.F({N, D}),
                          .dw = m.F({V, D})},
                         {{"x", &B::x, {0, 1}},
                          {"targets", &B::targets, {0}},
                          {"kept_offsets", &B::kept_offsets, {0}},
                          {"lse", &B::lse, {0}},
                          {"dlogp", &B::dlogp, {0}},
                          {"dx", &B::dx, {0, 1}},
                          {"dw", &B::dw, {0, 1}}});
  using S = SampleArgs;
  ExpectShapesAreHeld<S>(&Backend::Sample,
                         {.logits = m.F({N, V}),
                          .rows = SampleRows(&m),
                          .words = m.I({N}),
                          .ids = m.I({N}),
                          .logp = m.F({N}),
                          .kept_ids = m.I({N, 512}),
                          .kept_counts = m.I({N})},
                         {{"logits", &S::logits, {0}},
                          {"rows", &S::rows, {0, 1}},
                          {"words", &S::words, {0}},
                          {"ids", &S::ids, {0}},
                          {"logp", &S::logp, {0}},
                          {"kept_ids", &S::kept_ids, {0}},
                          {"kept_counts", &S::kept_counts, {0}}});
}

TEST(ShapeTest, OfTheOptimizer) {
  Memory m;
  AdamWOptions options;
  options.bias_correction1 = options.bias_correction2 = 0.1f;
  const AdamWTensor good = {
      .grad = m.F({D}), .p = m.F({D}), .m = m.F({D}), .v = m.F({D})};
  Definition().AdamW(options, {good, good});
  for (Tensor AdamWTensor::*tensor : {&AdamWTensor::grad, &AdamWTensor::p,
                                      &AdamWTensor::m, &AdamWTensor::v}) {
    AdamWTensor bad = good;
    bad.*tensor = Grown(good.*tensor, 0);
    EXPECT_DEATH(Definition().AdamW(options, {good, bad}), "CHECK ");
  }
}

TEST(ShapeTest, OfStepRecords) {
  Memory m;
  using W = WriteKeysArgs;
  ExpectShapesAreHeld<W>(&Backend::WriteKeys,
                         {.latent = m.F({N, C + R}),
                          .index_keys = m.F({N, Di}),
                          .slot = m.I({N}, {0, 1, 2}),
                          .latent_strip = m.F({kRows, C + R}),
                          .index_strip = m.F({kRows, Di})},
                         {{"latent", &W::latent, {0, 1}},
                          {"index_keys", &W::index_keys, {0, 1}},
                          {"slot", &W::slot, {0}},
                          {"latent_strip", &W::latent_strip, {1}},
                          {"index_strip", &W::index_strip, {1}}});
}

// Every query sees the first key alone.
KeyMap FirstKey(Memory* m) {
  return {.sequence = m->I({N}), .position = m->I({N}), .blocks = m->I({1, 1})};
}
Tensor Selected(Memory* m) {
  Ints chosen(N * K, -1);
  for (int64_t n = 0; n < N; ++n) chosen[n * K] = 0;
  return m->I({N, K}, chosen);
}

TEST(ShapeTest, OfAttention) {
  Memory m;
  using S = SparseMlaArgs;
  ExpectShapesAreHeld<S>(&Backend::SparseMla,
                         {.q = m.F({N, H, C + R}),
                          .keys = m.F({kRows, C + R}),
                          .map = FirstKey(&m),
                          .selected = Selected(&m),
                          .z = m.F({N, H, C}),
                          .lse = m.F({N, H})},
                         {{"q", &S::q, {0, 1, 2}},
                          {"keys", &S::keys, {1}},
                          {"selected", &S::selected, {0}},
                          {"z", &S::z, {0, 1}},
                          {"lse", &S::lse, {0, 1}}});
  using B = SparseMlaBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::SparseMlaBackward,
                         {.q = m.F({N, H, C + R}),
                          .keys = m.F({kRows, C + R}),
                          .map = FirstKey(&m),
                          .selected = Selected(&m),
                          .z = m.F({N, H, C}),
                          .lse = m.F({N, H}),
                          .dz = m.F({N, H, C}),
                          .dq = m.F({N, H, C + R}),
                          .dkeys = m.F({kRows, C + R})},
                         {{"q", &B::q, {0, 1, 2}},
                          {"keys", &B::keys, {0, 1}},
                          {"selected", &B::selected, {0}},
                          {"z", &B::z, {0, 1, 2}},
                          {"lse", &B::lse, {0, 1}},
                          {"dz", &B::dz, {0, 1, 2}},
                          {"dq", &B::dq, {0, 1, 2}},
                          {"dkeys", &B::dkeys, {0, 1}}});
}

TEST(ShapeTest, OfTheIndexer) {
  Memory m;
  using S = IndexerSelectArgs;
  ExpectShapesAreHeld<S>(&Backend::IndexerSelect,
                         {.q = m.F({N, Hi, Di}),
                          .w = m.F({N, Hi}),
                          .keys = m.F({kRows, Di}),
                          .map = FirstKey(&m),
                          .selected = m.I({N, K}),
                          .scores = m.F({N, 64})},
                         {{"q", &S::q, {0, 1, 2}},
                          {"w", &S::w, {0, 1}},
                          {"keys", &S::keys, {1}},
                          {"selected", &S::selected, {0}},
                          {"scores", &S::scores, {0}}});
  using L = IndexerKlArgs;
  ExpectShapesAreHeld<L>(&Backend::IndexerKl,
                         {.q = m.F({N, H, C + R}),
                          .keys = m.F({kRows, C + R}),
                          .lse = m.F({N, H}),
                          .index_q = m.F({N, Hi, Di}),
                          .index_w = m.F({N, Hi}),
                          .index_keys = m.F({kRows, Di}),
                          .map = FirstKey(&m),
                          .selected = Selected(&m),
                          .kl = m.F({N})},
                         {{"q", &L::q, {0, 1, 2}},
                          {"keys", &L::keys, {0, 1}},
                          {"lse", &L::lse, {0, 1}},
                          {"index_q", &L::index_q, {0, 1, 2}},
                          {"index_w", &L::index_w, {0, 1}},
                          {"index_keys", &L::index_keys, {0, 1}},
                          {"selected", &L::selected, {0}},
                          {"kl", &L::kl, {0}}});
  using B = IndexerKlBackwardArgs;
  ExpectShapesAreHeld<B>(&Backend::IndexerKlBackward,
                         {.q = m.F({N, H, C + R}),
                          .keys = m.F({kRows, C + R}),
                          .lse = m.F({N, H}),
                          .index_q = m.F({N, Hi, Di}),
                          .index_w = m.F({N, Hi}),
                          .index_keys = m.F({kRows, Di}),
                          .map = FirstKey(&m),
                          .selected = Selected(&m),
                          .dkl = m.F({N}),
                          .dindex_q = m.F({N, Hi, Di}),
                          .dindex_w = m.F({N, Hi}),
                          .dindex_keys = m.F({kRows, Di})},
                         {{"dkl", &B::dkl, {0}},
                          {"dindex_q", &B::dindex_q, {0, 1, 2}},
                          {"dindex_w", &B::dindex_w, {0, 1}},
                          {"dindex_keys", &B::dindex_keys, {0, 1}}});
}

}  // namespace
}  // namespace temper
