// Launches of the pointwise operations (kernels/ops/backend.h says what each
// is). All enqueue and return; operands were checked.

#ifndef KERNELS_CUDA_POINTWISE_H_
#define KERNELS_CUDA_POINTWISE_H_

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/ops/rows.h"

namespace temper::cuda {

// Any tensor: four axes, leading ones of size 1 where it has fewer; strides in
// elements.
struct View {
  void* data = nullptr;
  int64_t dim[4] = {1, 1, 1, 1};
  int64_t stride[4] = {0, 0, 0, 0};
  int64_t elements = 0;
};

// How an element becomes another: unchanged, of so many bytes, or converted.
enum class Element : uint8_t {
  kBytes1,
  kBytes2,
  kBytes4,
  kBytes8,
  kRound,  // f32 to bf16
  kWiden,  // bf16 to f32
};

// to = from, of one shape.
void Copy(const View& from, const View& to, Element element, Stream stream);
// x = 0, of the element's size.
void Fill(const View& x, Element element, Stream stream);
// x += y, floats of one shape.
void Add(const View& y, const View& x, Stream stream);
// x *= factor
void Scale(float factor, const View& x, Stream stream);

// Rows of any element type.
struct TypedRows {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;
};

enum class Move : uint8_t {
  kGather,   // to[n] = from[index[n]]
  kScatter,  // to[index[n]] = from[n]
  kWrite,    // kScatter, but an index below 0 is skipped
};

// Sets the fault kRow for an index beyond the table, and skips that row.
void MoveRows(const TypedRows& from, const int32_t* index, const TypedRows& to,
              Element element, Move move, uint32_t* fault, Stream stream);

void EmbedBackward(const int32_t* ids, const Rows<const float>& dx,
                   const Rows<float>& dtable, uint32_t* fault, Stream stream);

struct RopeArgs {
  GroupedRows<float> x;
  const int32_t* position;
  Rows<const float> cos_sin;
  bool interleaved;
  float sign;  // -1: backward
};
void Rope(const RopeArgs& args, uint32_t* fault, Stream stream);

void SwiGlu(const Rows<const float>& gate, const Rows<const float>& up,
            const Rows<float>& h, Stream stream);

struct SwiGluGrads {
  Rows<const float> gate, up, dh;
  Rows<float> dgate, dup;
};
void SwiGluBackward(const SwiGluGrads& args, Stream stream);

void CountEqualRows(const Rows<const int32_t>& a, const Rows<const int32_t>& b,
                    int64_t* count, Stream stream);

}  // namespace temper::cuda

#endif  // KERNELS_CUDA_POINTWISE_H_
