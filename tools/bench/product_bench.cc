#include "tools/bench/product_bench.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/tensor/tensor.h"

namespace temper {
namespace {

constexpr int64_t kSize = 1024;
constexpr int64_t kRowBytes = kSize * static_cast<int64_t>(sizeof(float));
// A training pack's rows down to a small decode batch's.
constexpr int64_t kRows[] = {1024, 256, 64, 8};
// Weights of one row's product, at least: machines may say nothing of their
// last cache.
constexpr int64_t kSetBytesMin = int64_t{256} << 20;

struct Matrix {
  std::unique_ptr<Buffer> buffer;
  Tensor tensor;
};

absl::StatusOr<Matrix> NewMatrix(Backend* backend, int64_t rows,
                                 int64_t columns) {
  Matrix matrix;
  ASSIGN_OR_RETURN(
      matrix.buffer,
      backend->Allocate(rows * columns * static_cast<int64_t>(sizeof(float))));
  matrix.tensor = Tensor(matrix.buffer->data(), DType::kF32, {rows, columns},
                         backend->device());
  // Ordinary numbers, whose products neither vanish nor grow.
  std::vector<float> values(rows * columns);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i % 61) / 64 - 0.47f;
  }
  RETURN_IF_ERROR(backend->CopyFromHost(values.data(), matrix.tensor));
  return matrix;
}

absl::StatusOr<std::unique_ptr<Weight>> NewPacked(Backend* backend,
                                                  const Tensor& values,
                                                  DType operand) {
  ASSIGN_OR_RETURN(auto weight,
                   backend->NewWeight({.groups = 1,
                                       .out = kSize,
                                       .in = kSize,
                                       .dtype = operand,
                                       .packed_for = PackedFor::kForward}));
  backend->SetWeight(values.Reshape({1, kSize, kSize}), weight.get());
  return weight;
}

absl::StatusOr<Measurement> BenchRows(Backend* backend, MachinePeak* peak,
                                      const Weight& weight, int64_t rows,
                                      Clock* clock) {
  ASSIGN_OR_RETURN(const Matrix x, NewMatrix(backend, rows, kSize));
  ASSIGN_OR_RETURN(const Matrix y, NewMatrix(backend, rows, kSize));
  const auto product = [&]() -> absl::StatusOr<double> {
    backend->Linear(x.tensor, weight, Use::kForward, y.tensor);
    // Operations are enqueued only; without the wait the queue is timed.
    RETURN_IF_ERROR(backend->Sync());
    return 2.0 * static_cast<double>(rows * kSize * kSize);
  };
  Work fmas;
  if (peak != nullptr) {
    fmas = [&]() -> absl::StatusOr<double> { return peak->RunFmas(); };
  }
  Measurement result;
  result.name = absl::StrCat(rows, " x ", kSize, " x ", kSize);
  result.unit = result.peak_unit = "FLOP";
  ASSIGN_OR_RETURN(result.of_peak, MeasurePaired(product, fmas, {}, clock));
  result.per_second = result.of_peak.per_second;
  return result;
}

absl::StatusOr<Measurement> BenchOneRow(Backend* backend, MachinePeak* peak,
                                        const Tensor& values, DType operand,
                                        Clock* clock) {
  const int64_t bytes =
      kSize * kSize * static_cast<int64_t>(DTypeBytes(operand));
  const int64_t cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  const int64_t set = std::max(2 * cache, kSetBytesMin) / bytes;
  std::vector<std::unique_ptr<Weight>> weights(set);
  for (auto& weight : weights) {
    ASSIGN_OR_RETURN(weight, NewPacked(backend, values, operand));
  }
  ASSIGN_OR_RETURN(const Matrix yard,
                   NewMatrix(backend, set * bytes / kRowBytes, kSize));
  ASSIGN_OR_RETURN(const Matrix x, NewMatrix(backend, 1, kSize));
  ASSIGN_OR_RETURN(const Matrix y, NewMatrix(backend, 1, kSize));
  const auto rows = [&]() -> absl::StatusOr<double> {
    for (const auto& weight : weights) {
      backend->Linear(x.tensor, *weight, Use::kForward, y.tensor);
    }
    RETURN_IF_ERROR(backend->Sync());
    return static_cast<double>(set * bytes);
  };
  Work read;
  if (peak != nullptr) {
    read = [&]() -> absl::StatusOr<double> {
      return peak->Read(yard.tensor.data(), set * bytes);
    };
  }
  Measurement result;
  result.name = absl::StrCat("1 x ", kSize, " x ", kSize, ", over ",
                             set * bytes >> 20, " MiB of weights");
  result.unit = result.peak_unit = "B";
  ASSIGN_OR_RETURN(result.of_peak, MeasurePaired(rows, read, {}, clock));
  result.per_second = result.of_peak.per_second;
  return result;
}

// The other rate that may be called a peak of tiles, beside the one in use.
absl::StatusOr<Measurement> BenchTilesAlone(MachinePeak* peak, Clock* clock) {
  Measurement result;
  result.name = "tile products alone, nothing loaded";
  result.unit = result.peak_unit = "FLOP";
  ASSIGN_OR_RETURN(
      result.of_peak,
      MeasurePaired(
          [&]() -> absl::StatusOr<double> { return peak->RunTilesAlone(); },
          [&]() -> absl::StatusOr<double> { return peak->RunFmas(); }, {},
          clock));
  result.per_second = result.of_peak.per_second;
  return result;
}

}  // namespace

absl::StatusOr<Measurements> BenchProducts(Backend* backend, MachinePeak* peak,
                                           DType operand, Clock* clock) {
  ASSIGN_OR_RETURN(const Matrix values, NewMatrix(backend, kSize, kSize));
  ASSIGN_OR_RETURN(const auto weight,
                   NewPacked(backend, values.tensor, operand));
  Measurements results;
  for (const int64_t rows : kRows) {
    ASSIGN_OR_RETURN(results.emplace_back(),
                     BenchRows(backend, peak, *weight, rows, clock));
  }
  ASSIGN_OR_RETURN(results.emplace_back(),
                   BenchOneRow(backend, peak, values.tensor, operand, clock));
  if (peak != nullptr && peak->RunTilesAlone() > 0) {
    ASSIGN_OR_RETURN(results.emplace_back(), BenchTilesAlone(peak, clock));
  }
  return results;
}

}  // namespace temper
