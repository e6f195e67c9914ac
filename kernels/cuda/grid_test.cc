// How far every operation spreads over a GPU at DeepSeek-V3.2's shapes, of 8192
// rows of training and of the 256 sequences of a decode step: its launches are
// looked at, none runs, and no memory is there. Under 132 blocks, one a
// multiprocessor, are last steps of reductions, plans, and what has fewer
// outputs than that many warps (kernels/cuda/README.md names them).

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/file.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/log.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt/launch_observer.h"

namespace temper {
namespace {

// Addresses that nobody may touch.
class NoRuntime final : public cuda::Runtime {
 public:
  cuda::Stream stream() const override { return nullptr; }
  absl::StatusOr<void*> Allocate(int64_t bytes) override {
    char* const at = next_;
    next_ += (bytes + 255) / 256 * 256;
    return at;
  }
  void Free(void*) override {}
  absl::StatusOr<void*> AllocateHost(int64_t bytes) override {
    return std::calloc(static_cast<size_t>(bytes), 1);
  }
  void FreeHost(void* memory) override { std::free(memory); }
  void CopyUp(const void*, void*, int64_t) override {}
  void CopyDown(const void*, void*, int64_t) override {}
  void Zero(void*, int64_t) override {}
  void Record(int) override {}
  absl::Status Wait(int) override { return absl::OkStatus(); }
  absl::Status BeginCapture() override { return absl::OkStatus(); }
  absl::StatusOr<void*> EndCapture() override { return nullptr; }
  bool capturing() const override { return false; }
  void Replay(void*) override {}
  void FreeGraph(void*) override {}

 private:
  char* next_ = reinterpret_cast<char*>(uintptr_t{1} << 44);
};

// The fewest blocks of each kernel, and the most threads of a block then.
struct Least {
  int64_t blocks = 0;
  int64_t threads = 0;
};

class GridTest : public testing::Test, protected simt::LaunchObserver {
 protected:
  void SetUp() override {
    SetFlushDenormals();
    backend_ = *NewCudaBackend(std::make_unique<NoRuntime>());
    simt::SetLaunchObserver(this);
  }
  void TearDown() override { simt::SetLaunchObserver(nullptr); }

  void OnLaunch(const char* kernel, dim3 grid, dim3 block, size_t,
                std::function<void()>) override {
    const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
    // The GPU's own limits.
    EXPECT_LE(grid.x, 0x7FFFFFFFu) << kernel;
    EXPECT_LE(grid.y, 65535u) << kernel;
    EXPECT_LE(grid.z, 65535u) << kernel;
    EXPECT_LE(block.x * block.y * block.z, 1024u) << kernel;
    EXPECT_LE(block.z, 64u) << kernel;
    std::string name = kernel;
    if (name.front() == '(') name = name.substr(1, name.find('<') - 1);
    auto& least = least_[name];
    if (least.blocks == 0 || blocks < least.blocks) {
      least = {blocks, int64_t{block.x} * block.y * block.z};
    }
  }

  Tensor Of(DType type, std::initializer_list<int64_t> shape) {
    const Tensor x(nullptr, type, shape, Device::kCuda);
    int64_t bytes = 8;
    for (const int64_t size : shape) bytes *= size;
    auto memory = backend_->Allocate(bytes);
    CHECK(memory.ok());
    kept_.push_back(*std::move(memory));
    return Tensor(kept_.back()->data(), type, shape, Device::kCuda);
  }
  Tensor F(std::initializer_list<int64_t> shape) {
    return Of(DType::kF32, shape);
  }
  Tensor I(std::initializer_list<int64_t> shape) {
    return Of(DType::kI32, shape);
  }
  const Weight& W(int64_t groups, int64_t out, int64_t in) {
    auto weight = backend_->NewWeight({.groups = groups, .out = out, .in = in});
    CHECK(weight.ok());
    weights_.push_back(*std::move(weight));
    return *weights_.back();
  }
  KeyMap Map(int64_t n, int64_t blocks, int32_t page) {
    return {I({n}), I({n}), I({n, blocks}), page};
  }

  // Operations of a batch of n tokens.
  void Projections(int64_t n);
  void Attention(int64_t n, const KeyMap& map);
  void Experts(int64_t n);
  void Head(int64_t n);
  void ProjectionGrads(int64_t n);
  void AttentionGrads(int64_t n, const KeyMap& map);
  void ExpertGrads(int64_t n);
  void Optimize();

  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Buffer>> kept_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::map<std::string, Least> least_;
};

constexpr int64_t kHidden = 7168, kHeads = 128, kLatent = 512, kRope = 64;
constexpr int64_t kQuery = 1536, kNope = 128, kValue = 128;
constexpr int64_t kIndexHeads = 64, kIndexDims = 128, kTopK = 2048;
constexpr int64_t kExperts = 256, kChosen = 8, kExpert = 2048, kDense = 18432;
constexpr int64_t kVocabulary = 129280, kSlots = 65536;

void GridTest::Projections(int64_t n) {
  Backend& b = *backend_;
  const Tensor x = F({n, kHidden}), ids = I({n});
  b.Embed(F({kVocabulary, kHidden}), ids, x);
  b.RmsNorm(x, F({kHidden}), 1e-6f, F({n, kHidden}));
  for (const auto& [out, in] : {std::pair{kQuery, kHidden},
                                {kHeads * (kNope + kRope), kQuery},
                                {kLatent + kRope, kHidden},
                                {kIndexHeads * kIndexDims, kQuery},
                                {kIndexDims, kHidden},
                                {kIndexHeads, kHidden},
                                {kHidden, kHeads * kValue},
                                {kDense, kHidden},
                                {kHidden, kDense},
                                {kExperts, kHidden},
                                {kVocabulary, kHidden}}) {
    b.Linear(F({n, in}), W(1, out, in), Use::kForward, F({n, out}));
  }
  b.RmsNorm(F({n, kQuery}), F({kQuery}), 1e-6f, F({n, kQuery}));
  b.RmsNorm(F({n, kLatent}), F({kLatent}), 1e-6f, F({n, kLatent}));
  b.LayerNorm({.x = F({n, kIndexDims}),
               .w = F({kIndexDims}),
               .b = F({kIndexDims}),
               .eps = 1e-6f,
               .y = F({n, kIndexDims})});
  for (const int64_t groups : {kHeads, int64_t{1}}) {
    b.Rope(F({n, groups, kRope}), I({n}), F({kSlots, kRope}),
           RopeStyle::kInterleaved, RopeDirection::kForward);
  }
  b.HeadLinear(F({n, kHeads, kNope}), W(kHeads, kLatent, kNope), Use::kForward,
               F({n, kHeads, kLatent}));
  b.HeadLinear(F({n, kHeads, kLatent}), W(kHeads, kValue, kLatent),
               Use::kForward, F({n, kHeads, kValue}));
  b.Add(F({n, kHidden}), x);
  b.Scale(0.5f, F({n, kIndexHeads}));
}

void GridTest::Attention(int64_t n, const KeyMap& map) {
  Backend& b = *backend_;
  const Tensor keys = F({kSlots, kLatent + kRope});
  const Tensor index_keys = F({kSlots, kIndexDims});
  b.WriteKeys({.latent = F({n, kLatent + kRope}),
               .index_keys = F({n, kIndexDims}),
               .slot = I({n}),
               .latent_strip = keys,
               .index_strip = index_keys});
  const Tensor selected = I({n, kTopK});
  b.IndexerSelect({.q = F({n, kIndexHeads, kIndexDims}),
                   .w = F({n, kIndexHeads}),
                   .keys = index_keys,
                   .map = map,
                   .selected = selected});
  b.SparseMla({.q = F({n, kHeads, kLatent + kRope}),
               .keys = keys,
               .map = map,
               .selected = selected,
               .z = F({n, kHeads, kLatent}),
               .lse = F({n, kHeads})});
}

void GridTest::Experts(int64_t n) {
  Backend& b = *backend_;
  const Tensor x = F({n, kHidden});
  const Tensor routes = I({n, kChosen}), gates = F({n, kChosen});
  b.MoeGate({.logits = F({n, kExperts}),
             .bias = F({kExperts}),
             .options = {8, 4, 2.5f},
             .slot = I({n}),
             .scores = F({n, kExperts}),
             .routes = routes,
             .gates = gates,
             .strip = Of(DType::kU8, {kSlots, kChosen})});
  const Tensor offsets = I({kExperts + 1}), rows = I({n * kChosen});
  const Tensor place = I({n, kChosen});
  b.MoePlan(
      {.routes = routes, .offsets = offsets, .rows = rows, .place = place});
  const Tensor pairs = F({n * kChosen, kHidden});
  b.GatherRows(x, rows, pairs);
  const Tensor h = F({n * kChosen, kExpert});
  b.GroupedLinear({.x = pairs,
                   .offsets = offsets,
                   .w = &W(kExperts, kExpert, kHidden),
                   .y = h});
  b.SwiGlu(h, h, h);
  b.SwiGlu(F({n, kExpert}), F({n, kExpert}), F({n, kExpert}));
  b.GroupedLinear({.x = h,
                   .offsets = offsets,
                   .w = &W(kExperts, kHidden, kExpert),
                   .y = pairs});
  b.MoeCombine({.x = pairs, .place = place, .gates = gates, .y = x});
  b.CheckNumbers(x, 1e18);
}

void GridTest::Head(int64_t n) {
  Backend& b = *backend_;
  const Tensor x = F({n, kHidden}), ids = I({n});
  b.LogProb({.x = x,
             .w = &W(1, kVocabulary, kHidden),
             .targets = ids,
             .kept_offsets = I({n + 1}),
             .kept_ids = I({n}),
             .logp = F({n}),
             .lse = F({n}),
             .entropy = F({n})});
  b.DrawWords(I({n, kSampleRowInts}), I({n}));
  b.Sample({.logits = F({n, kVocabulary}),
            .rows = I({n, kSampleRowInts}),
            .words = I({n}),
            .ids = ids,
            .logp = F({n}),
            .kept_ids = I({n, kKeptMax}),
            .kept_counts = I({n})});
}

void GridTest::ProjectionGrads(int64_t n) {
  Backend& b = *backend_;
  const Tensor x = F({n, kHidden}), dx = F({n, kHidden}), ids = I({n});
  b.LogProbBackward({.x = x,
                     .w = &W(1, kVocabulary, kHidden),
                     .targets = ids,
                     .kept_offsets = I({n + 1}),
                     .kept_ids = I({n}),
                     .lse = F({n}),
                     .dlogp = F({n}),
                     .dx = dx,
                     .dw = F({kVocabulary, kHidden})});
  for (const auto& [out, in] : {std::pair{kQuery, kHidden},
                                {kHeads * (kNope + kRope), kQuery},
                                {kLatent + kRope, kHidden},
                                {kIndexHeads, kHidden},
                                {kIndexDims, kHidden},
                                {kHidden, kHeads * kValue},
                                {kHidden, kDense},
                                {kExperts, kHidden}}) {
    const Tensor from = F({n, in}), to = F({n, out});
    b.Linear(to, W(1, out, in), Use::kTransposed, from);
    b.LinearWeightGrad({.x = from, .dy = to, .dw = F({out, in})});
  }
  b.HeadLinear(F({n, kHeads, kLatent}), W(kHeads, kLatent, kNope),
               Use::kTransposed, F({n, kHeads, kNope}));
  b.HeadLinearWeightGrad({.x = F({n, kHeads, kNope}),
                          .dy = F({n, kHeads, kLatent}),
                          .dw = F({kHeads, kLatent, kNope})});
  for (const int64_t width : {kHidden, kQuery, kLatent}) {
    b.RmsNormBackward({.x = F({n, width}),
                       .w = F({width}),
                       .dy = F({n, width}),
                       .dx = F({n, width}),
                       .dw = F({width})});
  }
  b.LayerNormBackward({.x = F({n, kIndexDims}),
                       .w = F({kIndexDims}),
                       .dy = F({n, kIndexDims}),
                       .dx = F({n, kIndexDims}),
                       .dw = F({kIndexDims}),
                       .db = F({kIndexDims})});
  b.EmbedBackward(ids, dx, F({kVocabulary, kHidden}));
}

void GridTest::AttentionGrads(int64_t n, const KeyMap& map) {
  Backend& b = *backend_;
  const Tensor q = F({n, kHeads, kLatent + kRope});
  const Tensor keys = F({n, kLatent + kRope}), selected = I({n, kTopK});
  const Tensor z = F({n, kHeads, kLatent}), lse = F({n, kHeads});
  b.SparseMlaBackward({.q = q,
                       .keys = keys,
                       .map = map,
                       .selected = selected,
                       .z = z,
                       .lse = lse,
                       .dz = z,
                       .dq = q,
                       .dkeys = keys});
  const Tensor index_q = F({n, kIndexHeads, kIndexDims});
  const Tensor index_w = F({n, kIndexHeads}), index_keys = F({n, kIndexDims});
  b.IndexerKl({.q = q,
               .keys = keys,
               .lse = lse,
               .index_q = index_q,
               .index_w = index_w,
               .index_keys = index_keys,
               .map = map,
               .selected = selected,
               .kl = F({n})});
  b.IndexerKlBackward({.q = q,
                       .keys = keys,
                       .lse = lse,
                       .index_q = index_q,
                       .index_w = index_w,
                       .index_keys = index_keys,
                       .map = map,
                       .selected = selected,
                       .dkl = F({n}),
                       .dindex_q = index_q,
                       .dindex_w = index_w,
                       .dindex_keys = index_keys});
}

void GridTest::ExpertGrads(int64_t n) {
  Backend& b = *backend_;
  const Tensor routes = I({n, kChosen}), gates = F({n, kChosen});
  b.CountEqualRows(routes, routes, Of(DType::kI64, {1}));
  b.MoeGateBackward({.scores = F({n, kExperts}),
                     .routes = routes,
                     .dgates = gates,
                     .dlogits = F({n, kExperts})});
  const Tensor pairs = F({n * kChosen, kHidden}), offsets = I({kExperts + 1});
  b.MoeCombineBackward({.x = pairs,
                        .place = routes,
                        .gates = gates,
                        .dy = F({n, kHidden}),
                        .dx = pairs,
                        .dgates = gates});
  const Tensor h = F({n * kChosen, kExpert});
  b.GroupedLinearWeightGrad({.x = pairs,
                             .dy = h,
                             .offsets = offsets,
                             .dw = F({kExperts, kExpert, kHidden})});
  b.SwiGluBackward({.gate = h, .up = h, .dh = h, .dgate = h, .dup = h});
  b.ScatterRows(F({n, kHidden}), I({n}), F({n, kHidden}));
  b.Copy(h, F({n * kChosen, kExpert}));
  b.Zero(F({n, kHidden}).Slice(1, 0, kHidden / 2));
}

void GridTest::Optimize() {
  const Tensor x = F({kHidden, kDense}), y = F({kQuery, kHidden});
  backend_->SumSquares({x, y}, Of(DType::kF64, {1}));
  backend_->AdamW({}, {{x, x, x, x}, {y, y, y, y}});
}

// Those of kernels/cuda/*.cu.
std::set<std::string> KernelNames() {
  const std::regex kernel(
      R"(__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\()");
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator("kernels/cuda")) {
    if (file.path().extension() != ".cu") continue;
    const auto text = ReadFile(file.path(), /*bytes_max=*/1 << 20);
    CHECK(text.ok()) << text.status();
    for (std::sregex_iterator at(text->begin(), text->end(), kernel), end;
         at != end; ++at) {
      names.insert((*at)[1]);
    }
  }
  return names;
}

TEST_F(GridTest, EveryOperationSpreadsOverAllMultiprocessors) {
  // A pack of training, and a decode step over pages.
  for (const int64_t n : {8192, 256}) {
    Projections(n);
    Attention(n, n == 256 ? Map(n, 1024, 64) : Map(n, n, 1));
    Experts(n);
    Head(n);
  }
  ProjectionGrads(8192);
  AttentionGrads(8192, Map(8192, 8192, 1));
  ExpertGrads(8192);
  Optimize();
  // The last steps of reductions, and plans.
  const std::set<std::string> steps = {"all_squares_f64", "check_numbers_f64",
                                       "first_fault_u32", "plan_offsets_i32",
                                       "tensor_squares_f64"};
  // By the kernel its blocks, of one warp: what has fewer outputs than 132
  // warps, a thread each, or fewer of them than 132, a block each.
  const std::map<std::string, int64_t> few = {
      {"block_squares_f64", 14},  // blocks of 4096 elements of a decode step
      {"draw_words_u32", 8},      // its words
      // Queries of the last chunk, a warp each: a plan.
      {"key_records_i32", 67},
      {"norm_weight_grad_f32", 128},  // the index keys' columns
  };
  std::set<std::string> launched;
  for (const auto& [kernel, least] : least_) {
    launched.insert(kernel);
    if (steps.contains(kernel)) continue;
    if (few.contains(kernel)) {
      EXPECT_EQ(least.blocks, few.at(kernel)) << kernel;
      EXPECT_EQ(least.threads, 32) << kernel;
    } else {
      EXPECT_GE(least.blocks, cuda::kMultiprocessors) << kernel;
    }
  }
  // Every kernel was launched, none is excused that is not there.
  EXPECT_EQ(launched, KernelNames());
  EXPECT_THAT(launched, testing::IsSupersetOf(steps));
  for (const auto& [name, blocks] : few) EXPECT_EQ(launched.count(name), 1u);
}

TEST(BlocksForDeathTest, MoreThanAGridHasEndTheProcess) {
  EXPECT_EQ(cuda::BlocksFor(0x7FFFFFFF, 1), 0x7FFFFFFFu);
  EXPECT_DEATH(cuda::BlocksFor(int64_t{1} << 31, 1), "more blocks than a grid");
  EXPECT_DEATH(cuda::BlocksFor(int64_t{1} << 40, 32), "more blocks than");
}

}  // namespace
}  // namespace temper
