#include "kernels/ops/testing/staging_backend.h"

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/ops/testing/staged_operands.h"

namespace temper {
namespace {

class StagingBackend : public Backend {
 public:
  explicit StagingBackend(std::unique_ptr<Backend> device)
      : device_(std::move(device)) {}

  // What it hands out and takes is the host's.
  Device device() const override { return Device::kCpu; }
  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(int64_t) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  absl::Status CopyFromHost(const void*, const Tensor&) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  absl::Status Read(const Tensor&, void*) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  absl::StatusOr<std::unique_ptr<HostBuffer>> AllocateHost(int64_t) override {
    return absl::UnimplementedError("op cases own their arrays");
  }
  void CopyToHost(const Tensor&, HostBuffer*, int64_t) override {
    CHECK(false) << "op cases own their arrays";
  }
  Event Record() override { return device_->Record(); }
  absl::Status Wait(const Event& event) override {
    return device_->Wait(event);
  }
  int64_t BucketRows(int64_t rows) const override {
    return device_->BucketRows(rows);
  }
  absl::Status Sync() override {
    return std::exchange(fault_, absl::OkStatus());
  }
  absl::StatusOr<std::unique_ptr<Weight>> NewWeight(
      const WeightSpec& spec) override {
    return device_->NewWeight(spec);
  }

  void Zero(const Tensor& x) override {
    Run({x}, [&](const Operands& up) { device_->Zero(up(x)); });
  }
  void SetWeight(const Tensor& values, Weight* weight) override {
    Run({values},
        [&](const Operands& up) { device_->SetWeight(up(values), weight); });
  }
  void Linear(const Tensor& x, const Weight& w, Use use,
              const Tensor& y) override {
    Run({x, y},
        [&](const Operands& up) { device_->Linear(up(x), w, use, up(y)); });
  }
  void LinearWeightGrad(const WeightGradArgs& args) override {
    AddGrad(&Backend::LinearWeightGrad, args);
  }
  void HeadLinear(const Tensor& x, const Weight& w, Use use,
                  const Tensor& y) override {
    Run({x, y},
        [&](const Operands& up) { device_->HeadLinear(up(x), w, use, up(y)); });
  }
  void HeadLinearWeightGrad(const WeightGradArgs& args) override {
    AddGrad(&Backend::HeadLinearWeightGrad, args);
  }
  void Embed(const Tensor& table, const Tensor& ids, const Tensor& x) override {
    Run({table, ids, x},
        [&](const Operands& up) { device_->Embed(up(table), up(ids), up(x)); });
  }
  void EmbedBackward(const Tensor& ids, const Tensor& dx,
                     const Tensor& dtable) override {
    Run({ids, dx, dtable}, [&](const Operands& up) {
      device_->EmbedBackward(up(ids), up(dx), up(dtable));
    });
  }
  void Add(const Tensor& y, const Tensor& x) override {
    Run({y, x}, [&](const Operands& up) { device_->Add(up(y), up(x)); });
  }
  void RmsNorm(const Tensor& x, const Tensor& w, float eps,
               const Tensor& y) override {
    Run({x, w, y}, [&](const Operands& up) {
      device_->RmsNorm(up(x), up(w), eps, up(y));
    });
  }
  void Rope(const Tensor& x, const Tensor& position, const Tensor& cos_sin,
            RopeStyle style, RopeDirection direction) override {
    Run({x, position, cos_sin}, [&](const Operands& up) {
      device_->Rope(up(x), up(position), up(cos_sin), style, direction);
    });
  }
  void SwiGlu(const Tensor& gate, const Tensor& up_in,
              const Tensor& h) override {
    Run({gate, up_in, h}, [&](const Operands& up) {
      device_->SwiGlu(up(gate), up(up_in), up(h));
    });
  }
  void Scale(float factor, const Tensor& x) override {
    Run({x}, [&](const Operands& up) { device_->Scale(factor, up(x)); });
  }
  void ScatterRows(const Tensor& from, const Tensor& rows,
                   const Tensor& to) override {
    Run({from, rows, to}, [&](const Operands& up) {
      device_->ScatterRows(up(from), up(rows), up(to));
    });
  }
  void GatherRows(const Tensor& from, const Tensor& rows,
                  const Tensor& to) override {
    Run({from, rows, to}, [&](const Operands& up) {
      device_->GatherRows(up(from), up(rows), up(to));
    });
  }
  void WriteKeys(const WriteKeysArgs& args) override {
    Run({args.latent, args.index_keys, args.slot, args.latent_strip,
         args.index_strip},
        [&](const Operands& up) {
          WriteKeysArgs on = args;
          OnDevice(up, {&on.latent, &on.index_keys, &on.slot, &on.latent_strip,
                        &on.index_strip});
          device_->WriteKeys(on);
        });
  }
  void CountEqualRows(const Tensor& a, const Tensor& b,
                      const Tensor& count) override {
    Run({a, b, count}, [&](const Operands& up) {
      device_->CountEqualRows(up(a), up(b), up(count));
    });
  }
  void CheckNumbers(const Tensor& x, double limit) override {
    Run({x}, [&](const Operands& up) { device_->CheckNumbers(up(x), limit); });
  }
  void SumSquares(absl::Span<const Tensor> tensors,
                  const Tensor& out) override {
    std::vector<Tensor> operands(tensors.begin(), tensors.end());
    operands.push_back(out);
    Run(operands, [&](const Operands& up) {
      std::vector<Tensor> on;
      for (const Tensor& x : tensors) on.push_back(up(x));
      device_->SumSquares(on, up(out));
    });
  }
  void GroupedLinear(const GroupedLinearArgs& args) override {
    Run({args.x, args.offsets, args.y}, [&](const Operands& up) {
      GroupedLinearArgs on = args;
      OnDevice(up, {&on.x, &on.offsets, &on.y});
      device_->GroupedLinear(on);
    });
  }
  void GroupedLinearWeightGrad(
      const GroupedLinearWeightGradArgs& args) override {
    Run({args.x, args.dy, args.offsets, args.dw}, [&](const Operands& up) {
      GroupedLinearWeightGradArgs on = args;
      OnDevice(up, {&on.x, &on.dy, &on.offsets, &on.dw});
      device_->GroupedLinearWeightGrad(on);
    });
  }
  void RmsNormBackward(const RmsNormBackwardArgs& args) override {
    Run({args.x, args.w, args.dy, args.dx, args.dw}, [&](const Operands& up) {
      RmsNormBackwardArgs on = args;
      OnDevice(up, {&on.x, &on.w, &on.dy, &on.dx, &on.dw});
      device_->RmsNormBackward(on);
    });
  }
  void LayerNorm(const LayerNormArgs& args) override {
    Run({args.x, args.w, args.b, args.y}, [&](const Operands& up) {
      LayerNormArgs on = args;
      OnDevice(up, {&on.x, &on.w, &on.b, &on.y});
      device_->LayerNorm(on);
    });
  }
  void LayerNormBackward(const LayerNormBackwardArgs& args) override {
    Run({args.x, args.w, args.dy, args.dx, args.dw, args.db},
        [&](const Operands& up) {
          LayerNormBackwardArgs on = args;
          OnDevice(up, {&on.x, &on.w, &on.dy, &on.dx, &on.dw, &on.db});
          device_->LayerNormBackward(on);
        });
  }
  void SwiGluBackward(const SwiGluBackwardArgs& args) override {
    Run({args.gate, args.up, args.dh, args.dgate, args.dup},
        [&](const Operands& up) {
          SwiGluBackwardArgs on = args;
          OnDevice(up, {&on.gate, &on.up, &on.dh, &on.dgate, &on.dup});
          device_->SwiGluBackward(on);
        });
  }
  void IndexerSelect(const IndexerSelectArgs& args) override {
    Run({args.q, args.w, args.keys, args.map.sequence, args.map.position,
         args.map.blocks, args.selected, args.scores},
        [&](const Operands& up) {
          IndexerSelectArgs on = args;
          on.map = up(args.map);
          OnDevice(up, {&on.q, &on.w, &on.keys, &on.selected, &on.scores});
          device_->IndexerSelect(on);
        });
  }
  void SparseMla(const SparseMlaArgs& args) override {
    Run({args.q, args.keys, args.map.sequence, args.map.position,
         args.map.blocks, args.selected, args.z, args.lse},
        [&](const Operands& up) {
          SparseMlaArgs on = args;
          on.map = up(args.map);
          OnDevice(up, {&on.q, &on.keys, &on.selected, &on.z, &on.lse});
          device_->SparseMla(on);
        });
  }
  void SparseMlaBackward(const SparseMlaBackwardArgs& args) override {
    Run({args.q, args.keys, args.map.sequence, args.map.position,
         args.map.blocks, args.selected, args.z, args.lse, args.dz, args.dq,
         args.dkeys},
        [&](const Operands& up) {
          SparseMlaBackwardArgs on = args;
          on.map = up(args.map);
          OnDevice(up, {&on.q, &on.keys, &on.selected, &on.z, &on.lse, &on.dz,
                        &on.dq, &on.dkeys});
          device_->SparseMlaBackward(on);
        });
  }
  void IndexerKl(const IndexerKlArgs& args) override {
    Run({args.q, args.keys, args.lse, args.index_q, args.index_w,
         args.index_keys, args.map.sequence, args.map.position, args.map.blocks,
         args.selected, args.kl},
        [&](const Operands& up) {
          IndexerKlArgs on = args;
          on.map = up(args.map);
          OnDevice(up, {&on.q, &on.keys, &on.lse, &on.index_q, &on.index_w,
                        &on.index_keys, &on.selected, &on.kl});
          device_->IndexerKl(on);
        });
  }
  void IndexerKlBackward(const IndexerKlBackwardArgs& args) override {
    Run({args.q, args.keys, args.lse, args.index_q, args.index_w,
         args.index_keys, args.map.sequence, args.map.position, args.map.blocks,
         args.selected, args.dkl, args.dindex_q, args.dindex_w,
         args.dindex_keys},
        [&](const Operands& up) {
          IndexerKlBackwardArgs on = args;
          on.map = up(args.map);
          OnDevice(up, {&on.q, &on.keys, &on.lse, &on.index_q, &on.index_w,
                        &on.index_keys, &on.selected, &on.dkl, &on.dindex_q,
                        &on.dindex_w, &on.dindex_keys});
          device_->IndexerKlBackward(on);
        });
  }
  void MoeGate(const MoeGateArgs& args) override {
    Run({args.logits, args.bias, args.slot, args.scores, args.routes,
         args.gates, args.strip},
        [&](const Operands& up) {
          MoeGateArgs on = args;
          OnDevice(up, {&on.logits, &on.bias, &on.slot, &on.scores, &on.routes,
                        &on.gates, &on.strip});
          device_->MoeGate(on);
        });
  }
  void MoeGateBackward(const MoeGateBackwardArgs& args) override {
    Run({args.scores, args.routes, args.dgates, args.dlogits},
        [&](const Operands& up) {
          MoeGateBackwardArgs on = args;
          OnDevice(up, {&on.scores, &on.routes, &on.dgates, &on.dlogits});
          device_->MoeGateBackward(on);
        });
  }
  void MoePlan(const MoePlanArgs& args) override {
    Run({args.routes, args.offsets, args.rows, args.place},
        [&](const Operands& up) {
          MoePlanArgs on = args;
          OnDevice(up, {&on.routes, &on.offsets, &on.rows, &on.place});
          device_->MoePlan(on);
        });
  }
  void MoeCombine(const MoeCombineArgs& args) override {
    Run({args.x, args.place, args.gates, args.y}, [&](const Operands& up) {
      MoeCombineArgs on = args;
      OnDevice(up, {&on.x, &on.place, &on.gates, &on.y});
      device_->MoeCombine(on);
    });
  }
  void MoeCombineBackward(const MoeCombineBackwardArgs& args) override {
    Run({args.x, args.place, args.gates, args.dy, args.dx, args.dgates},
        [&](const Operands& up) {
          MoeCombineBackwardArgs on = args;
          OnDevice(up,
                   {&on.x, &on.place, &on.gates, &on.dy, &on.dx, &on.dgates});
          device_->MoeCombineBackward(on);
        });
  }
  void LogProb(const LogProbArgs& args) override {
    Run({args.x, args.rows, args.targets, args.kept_offsets, args.kept_ids,
         args.logp, args.lse, args.entropy},
        [&](const Operands& up) {
          LogProbArgs on = args;
          OnDevice(up, {&on.x, &on.rows, &on.targets, &on.kept_offsets,
                        &on.kept_ids, &on.logp, &on.lse, &on.entropy});
          device_->LogProb(on);
        });
  }
  void LogProbBackward(const LogProbBackwardArgs& args) override {
    Run({args.x, args.rows, args.targets, args.kept_offsets, args.kept_ids,
         args.lse, args.dlogp, args.dx, args.dw},
        [&](const Operands& up) {
          LogProbBackwardArgs on = args;
          OnDevice(up, {&on.x, &on.rows, &on.targets, &on.kept_offsets,
                        &on.kept_ids, &on.lse, &on.dlogp, &on.dx, &on.dw});
          device_->LogProbBackward(on);
        });
  }
  void DrawWords(const Tensor& rows, const Tensor& words) override {
    Run({rows, words},
        [&](const Operands& up) { device_->DrawWords(up(rows), up(words)); });
  }
  void Sample(const SampleArgs& args) override {
    Run({args.logits, args.rows, args.words, args.ids, args.logp, args.kept_ids,
         args.kept_counts},
        [&](const Operands& up) {
          SampleArgs on = args;
          OnDevice(up, {&on.logits, &on.rows, &on.words, &on.ids, &on.logp,
                        &on.kept_ids, &on.kept_counts});
          device_->Sample(on);
        });
  }
  void AdamW(const AdamWOptions& options,
             absl::Span<const AdamWTensor> tensors) override {
    std::vector<Tensor> operands;
    for (const AdamWTensor& t : tensors) {
      operands.insert(operands.end(), {t.grad, t.p, t.m, t.v});
    }
    Run(operands, [&](const Operands& up) {
      std::vector<AdamWTensor> on;
      for (const AdamWTensor& t : tensors) {
        on.push_back({up(t.grad), up(t.p), up(t.m), up(t.v), t.decays});
      }
      device_->AdamW(options, on);
    });
  }

 private:
  void AddGrad(void (Backend::*product)(const WeightGradArgs&),
               const WeightGradArgs& args) {
    Run({args.x, args.dy, args.dw}, [&](const Operands& up) {
      (device_.get()->*product)(
          {up(args.x), up(args.dy), up(args.dw), args.operand});
    });
  }

  static void OnDevice(const Operands& up,
                       std::initializer_list<Tensor*> tensors) {
    for (Tensor* x : tensors) *x = up(*x);
  }

  template <typename Operation>
  void Run(const std::vector<Tensor>& operands, Operation operation) {
    Operands up(device_.get(), &fault_);
    for (const Tensor& x : operands) up.In(x);
    up.Upload();
    operation(up);
    up.Download();
  }

  const std::unique_ptr<Backend> device_;
  absl::Status fault_;  // the first since the last Sync
};

}  // namespace

std::unique_ptr<Backend> NewStagingBackend(std::unique_ptr<Backend> device) {
  return std::make_unique<StagingBackend>(std::move(device));
}

}  // namespace temper
