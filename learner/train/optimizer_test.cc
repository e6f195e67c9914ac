#include "learner/train/optimizer.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "gtest/gtest.h"
#include "kernels/base/float_mode.h"
#include "kernels/base/rng.h"
#include "kernels/find_backend.h"
#include "kernels/model/test_model.h"

namespace temper {
namespace {

using testing::HasSubstr;

// AdamW (Loshchilov and Hutter 2019, algorithm 2) in double, over a whole
// model: decay apart from the gradient, moments corrected for their start at 0,
// the gradient scaled to the clip.
class PlainAdamW {
 public:
  PlainAdamW(std::vector<Parameter> parameters,
             const std::vector<float>& values, ParameterGroup group)
      : parameters_(std::move(parameters)),
        group_(group),
        values_(values.begin(), values.end()),
        m_(values.size()),
        v_(values.size()) {}

  // Returns the gradient's norm.
  double Step(const OptimizerConfig& options,
              const std::vector<float>& gradient) {
    ++step_;
    double squares = 0;
    for (const Parameter& parameter : parameters_) {
      if (parameter.group != group_) continue;
      for (int64_t i = 0; i < parameter.elements; ++i) {
        squares += std::pow(double{gradient[parameter.offset + i]}, 2);
      }
    }
    const double norm = std::sqrt(squares);
    const double scale = options.grad_clip() > 0 && norm > options.grad_clip()
                             ? options.grad_clip() / norm
                             : 1;
    for (const Parameter& parameter : parameters_) {
      if (parameter.group != group_) continue;
      const double decay =
          parameter.shape.size() >= 2 ? options.weight_decay() : 0;
      for (int64_t i = 0; i < parameter.elements; ++i) {
        Update(options, parameter.offset + i,
               scale * gradient[parameter.offset + i], decay);
      }
    }
    return norm;
  }

  const std::vector<double>& values() const { return values_; }
  const std::vector<double>& m() const { return m_; }
  const std::vector<double>& v() const { return v_; }

 private:
  void Update(const OptimizerConfig& options, int64_t i, double g,
              double decay) {
    m_[i] = options.beta1() * m_[i] + (1 - options.beta1()) * g;
    v_[i] = options.beta2() * v_[i] + (1 - options.beta2()) * g * g;
    const double first = m_[i] / (1 - std::pow(options.beta1(), step_));
    const double second = v_[i] / (1 - std::pow(options.beta2(), step_));
    values_[i] -=
        options.learning_rate() *
        (first / (std::sqrt(second) + options.adam_eps()) + decay * values_[i]);
  }

  const std::vector<Parameter> parameters_;
  const ParameterGroup group_;
  std::vector<double> values_, m_, v_;
  int step_ = 0;
};

// Both moments of every parameter, the first ones first.
std::vector<float> MomentsOf(const Optimizer& optimizer) {
  std::vector<float> moments(optimizer.moments());
  EXPECT_TRUE(optimizer.CopyMoments(0, &moments).ok());
  return moments;
}

class OptimizerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { SetFlushDenormals(); }

  OptimizerTest()
      : backend_(*FindBackend({})),
        model_(TrainableOf(backend_.get(), TinyConfig(),
                           RandomValues(TinyConfig(), /*seed=*/7))),
        gradients_(*ModelGradients::Create(backend_.get(), TinyConfig())) {
    options_.set_learning_rate(0.01);
    options_.set_weight_decay(0.1);
    options_.set_grad_clip(0);
  }

  std::unique_ptr<Optimizer> NewOptimizer(const TrainableModel& model,
                                          ParameterGroup group) const {
    return *Optimizer::Create(backend_.get(), model.masters.get(),
                              model.weights.get(), {group});
  }

  // Sets all gradients, those of frozen groups too.
  std::vector<float> SetGradients(uint64_t seed, double scale) {
    std::vector<float> values;
    for (int64_t i = 0; i < gradients_->all().elements(); ++i) {
      values.push_back(static_cast<float>(
          scale * Normal({seed, RngPurpose::kTest, static_cast<uint64_t>(i)})));
    }
    EXPECT_TRUE(backend_->CopyFromHost(values.data(), gradients_->all()).ok());
    return values;
  }

  std::unique_ptr<Backend> backend_;
  TrainableModel model_;
  std::unique_ptr<ModelGradients> gradients_;
  OptimizerConfig options_ = UsualOptimizer();
};

TEST_F(OptimizerTest, StepsAreThoseOfPlainAdamWAndFrozenGroupsStay) {
  for (const ParameterGroup group :
       {ParameterGroup::kMain, ParameterGroup::kIndexer}) {
    const std::vector<float> before = model_.masters->GetValues();
    PlainAdamW plain(model_.masters->parameters(), before, group);
    const auto optimizer = NewOptimizer(model_, group);
    for (uint64_t step = 1; step <= 5; ++step) {
      const std::vector<float> gradient = SetGradients(step, 0.01 * step);
      const auto norm = optimizer->Step(options_, *gradients_);
      ASSERT_TRUE(norm.ok()) << norm.status();
      const double want = plain.Step(options_, gradient);
      EXPECT_NEAR(*norm, want, 1e-9 * want);
      EXPECT_EQ(optimizer->steps(), static_cast<int64_t>(step));
    }
    const std::vector<float> moments = MomentsOf(*optimizer);
    for (size_t i = 0; i < before.size(); ++i) {
      ASSERT_NEAR(moments[i], plain.m()[i], 1e-7) << i;
      ASSERT_NEAR(moments[before.size() + i], plain.v()[i], 1e-7) << i;
    }
    const std::vector<float> after = model_.masters->GetValues();
    double moved = 0;
    for (const Parameter& parameter : model_.masters->parameters()) {
      for (int64_t e = 0; e < parameter.elements; ++e) {
        const int64_t i = parameter.offset + e;
        if (parameter.group != group) {
          ASSERT_EQ(after[i], before[i]) << parameter.name;
        } else {
          // Each update is up to 0.01; fp32 keeps seven digits of values
          // near 1.
          ASSERT_NEAR(after[i], plain.values()[i], 2e-6) << parameter.name;
          moved = std::max(moved, std::fabs(double{after[i]} - before[i]));
        }
      }
    }
    EXPECT_GT(moved, 0.02);
  }
}

TEST_F(OptimizerTest, AboveTheClipTheGradientIsScaledAndItsOwnNormReturned) {
  options_.set_grad_clip(0.5);
  PlainAdamW plain(model_.masters->parameters(), model_.masters->GetValues(),
                   ParameterGroup::kMain);
  const auto optimizer = NewOptimizer(model_, ParameterGroup::kMain);
  // The first is clipped, the second is not: its moments mix the two.
  for (const double scale : {0.1, 1e-4}) {
    const std::vector<float> gradient = SetGradients(1, scale);
    const double want = plain.Step(options_, gradient);
    EXPECT_EQ(want > options_.grad_clip(), scale == 0.1);
    EXPECT_NEAR(*optimizer->Step(options_, *gradients_), want, 1e-9 * want);
  }
  const std::vector<float> after = model_.masters->GetValues();
  for (size_t i = 0; i < after.size(); ++i) {
    ASSERT_NEAR(after[i], plain.values()[i], 2e-6) << i;
  }
}

// A key that is added to the section is heeded here, or is said to be
// another's.
TEST_F(OptimizerTest, EveryKeyOfTheSectionChangesAnUpdateButTheWarmUp) {
  const auto values_after = [&](const OptimizerConfig& options) {
    const TrainableModel model = TrainableOf(
        backend_.get(), TinyConfig(), RandomValues(TinyConfig(), /*seed=*/7));
    const auto optimizer = NewOptimizer(model, ParameterGroup::kMain);
    for (const uint64_t step : {1, 2}) {
      SetGradients(step, 0.1);
      EXPECT_TRUE(optimizer->Step(options, *gradients_).ok());
    }
    return model.masters->GetValues();
  };
  options_.set_grad_clip(0.5);
  const std::vector<float> before = values_after(options_);
  const google::protobuf::Descriptor* section = OptimizerConfig::descriptor();
  for (int i = 0; i < section->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* key = section->field(i);
    OptimizerConfig changed = options_;
    if (key->name() == "warmup_steps") {  // TrainStep's
      changed.set_warmup_steps(3);
      EXPECT_EQ(values_after(changed), before);
      continue;
    }
    ASSERT_EQ(key->cpp_type(),
              google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE)
        << key->name() << " needs a change of its own here";
    const auto* values = changed.GetReflection();
    const double value = values->GetDouble(changed, key);
    values->SetDouble(&changed, key, value == 0 ? 0.5 : value / 2);
    EXPECT_NE(values_after(changed), before) << key->name();
  }
}

TEST_F(OptimizerTest, TheClipFactorBringsANormWithinTheClip) {
  EXPECT_EQ(ClipFactor(0.5, 1), 1);
  EXPECT_EQ(ClipFactor(1e9, 0), 1);
  EXPECT_EQ(ClipFactor(1e9, std::numeric_limits<double>::infinity()), 1);
  EXPECT_EQ(ClipFactor(4, 2), 2 / (4 + 1e-6));
  EXPECT_LT(4 * ClipFactor(4, 2), 2);
}

TEST_F(OptimizerTest, WithoutGradientMatricesDecayAndVectorsStay) {
  const std::vector<float> before = model_.masters->GetValues();
  const auto optimizer = NewOptimizer(model_, ParameterGroup::kMain);
  gradients_->Zero();
  EXPECT_EQ(*optimizer->Step(options_, *gradients_), 0);
  const std::vector<float> after = model_.masters->GetValues();
  for (const Parameter& parameter : model_.masters->parameters()) {
    const bool decays =
        parameter.group == ParameterGroup::kMain && parameter.shape.size() >= 2;
    for (int64_t e = 0; e < parameter.elements; ++e) {
      const int64_t i = parameter.offset + e;
      ASSERT_NEAR(after[i], before[i] * (decays ? 1 - 0.01 * 0.1 : 1),
                  decays ? 1e-6 : 0)
          << parameter.name;
    }
  }
}

TEST_F(OptimizerTest, ANormThatIsNotFiniteChangesNothing) {
  const std::vector<float> before = model_.masters->GetValues();
  const auto optimizer = NewOptimizer(model_, ParameterGroup::kMain);
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    SetGradients(1, 0.1);
    const Tensor first = gradients_->grad(model_.masters->parameters()[0]);
    ASSERT_TRUE(backend_
                    ->CopyFromHost(
                        &bad, first.Reshape({first.elements()}).Slice(0, 0, 1))
                    .ok());
    const auto norm = optimizer->Step(options_, *gradients_);
    EXPECT_EQ(norm.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(norm.status().message()), HasSubstr("update 1"));
  }
  EXPECT_EQ(model_.masters->GetValues(), before);
  EXPECT_EQ(optimizer->steps(), 0);
  EXPECT_EQ(MomentsOf(*optimizer), std::vector<float>(2 * before.size()));
}

TEST_F(OptimizerTest, ItsStateCarriedOverGoesOnBitForBit) {
  const auto optimizer = NewOptimizer(model_, ParameterGroup::kMain);
  SetGradients(1, 0.1);
  ASSERT_TRUE(optimizer->Step(options_, *gradients_).ok());
  const TrainableModel copy =
      TrainableOf(backend_.get(), TinyConfig(), model_.masters->GetValues());
  const auto resumed = NewOptimizer(copy, ParameterGroup::kMain);
  const std::vector<float> moments = MomentsOf(*optimizer);
  EXPECT_EQ(static_cast<int64_t>(moments.size() * sizeof(float)),
            Optimizer::BytesFor(TinyConfig()));
  ASSERT_TRUE(resumed
                  ->SetState(optimizer->steps(),
                             reinterpret_cast<const std::byte*>(moments.data()))
                  .ok());
  SetGradients(2, 0.1);
  ASSERT_TRUE(optimizer->Step(options_, *gradients_).ok());
  ASSERT_TRUE(resumed->Step(options_, *gradients_).ok());
  EXPECT_EQ(copy.masters->GetValues(), model_.masters->GetValues());
  EXPECT_EQ(MomentsOf(*resumed), MomentsOf(*optimizer));
  EXPECT_EQ(resumed->steps(), 2);
}

// What the products use follows the values: without FollowMasters() they would
// go on with the packings of before.
TEST_F(OptimizerTest, AStepPublishesTheWeights) {
  const auto optimizer = NewOptimizer(model_, ParameterGroup::kMain);
  SetGradients(1, 0.1);
  ASSERT_TRUE(optimizer->Step(options_, *gradients_).ok());
  const int64_t dim = TinyConfig().hidden_size;
  const int64_t vocab = TinyConfig().vocab_size;
  const auto x_buffer = *backend_->Allocate(dim * 4);
  const auto y_buffer = *backend_->Allocate(vocab * 4);
  const Tensor x(x_buffer->data(), DType::kF32, {1, dim}, backend_->device());
  const Tensor y(y_buffer->data(), DType::kF32, {1, vocab}, backend_->device());
  std::vector<float> one(dim, 0.0f), column(vocab), head(vocab * dim);
  one[3] = 1;
  ASSERT_TRUE(backend_->CopyFromHost(one.data(), x).ok());
  backend_->Linear(x, model_.weights->lm_head(), Use::kForward, y);
  ASSERT_TRUE(backend_->Read(y, column.data()).ok());
  ASSERT_TRUE(
      backend_->Read(model_.masters->value("lm_head.weight"), head.data())
          .ok());
  for (int64_t v = 0; v < vocab; ++v) EXPECT_EQ(column[v], head[v * dim + 3]);
}

}  // namespace
}  // namespace temper
