#include "kernels/cuda/device_math.h"
#include "kernels/cuda/device_view.h"
#include "kernels/cuda/pointwise.h"

namespace temper::cuda {
namespace {

template <typename T>
__device__ inline void CopyOne(const void* from, int64_t i, void* to,
                               int64_t j) {
  static_cast<T*>(to)[j] = static_cast<const T*>(from)[i];
}

__device__ inline void CopyElement(Element element, const void* from, int64_t i,
                                   void* to, int64_t j) {
  switch (element) {
    case Element::kBytes1:
      return CopyOne<uint8_t>(from, i, to, j);
    case Element::kBytes2:
      return CopyOne<uint16_t>(from, i, to, j);
    case Element::kBytes4:
      return CopyOne<uint32_t>(from, i, to, j);
    case Element::kBytes8:
      return CopyOne<uint64_t>(from, i, to, j);
    case Element::kRound:
      static_cast<uint16_t*>(to)[j] =
          Bf16FromFloat(static_cast<const float*>(from)[i]);
      return;
    case Element::kWiden:
      static_cast<float*>(to)[j] =
          FloatFromBf16(static_cast<const uint16_t*>(from)[i]);
      return;
  }
}

__global__ void copy_any(View from, View to, Element element) {
  const int64_t i = ThreadOfGrid();
  if (i >= to.elements) return;
  CopyElement(element, from.data, OffsetOf(from, i), to.data, OffsetOf(to, i));
}

__global__ void zero_any(View x, Element element) {
  const int64_t i = ThreadOfGrid();
  if (i >= x.elements) return;
  const uint64_t zero = 0;
  CopyElement(element, &zero, 0, x.data, OffsetOf(x, i));
}

__global__ void add_f32(View y, View x) {
  const int64_t i = ThreadOfGrid();
  if (i >= x.elements) return;
  float* to = static_cast<float*>(x.data) + OffsetOf(x, i);
  *to = *to + static_cast<const float*>(y.data)[OffsetOf(y, i)];
}

__global__ void scale_f32(float factor, View x) {
  const int64_t i = ThreadOfGrid();
  if (i >= x.elements) return;
  float* to = static_cast<float*>(x.data) + OffsetOf(x, i);
  *to = *to * factor;
}

__global__ void move_rows_any(TypedRows from, const int32_t* index,
                              TypedRows to, Element element, Move move,
                              uint32_t* fault) {
  const int64_t columns = from.columns;
  const int64_t i = ThreadOfGrid(), n = i / columns, c = i % columns;
  const bool gathers = move == Move::kGather;
  if (n >= (gathers ? to.rows : from.rows)) return;
  const int32_t row = index[n];
  if (row < 0 && move == Move::kWrite) return;
  if (row < 0 || row >= (gathers ? from.rows : to.rows)) {
    if (c == 0) SetFault(fault, DeviceFault::kRow);
    return;
  }
  CopyElement(element, from.data, (gathers ? row : n) * from.stride + c,
              to.data, (gathers ? n : row) * to.stride + c);
}

// A thread a column: tokens ascend in it.
__global__ void embed_backward_f32(const int32_t* ids, Rows<const float> dx,
                                   Rows<float> dtable, uint32_t* fault) {
  const int64_t c = ThreadOfGrid();
  if (c >= dx.columns) return;
  for (int64_t n = 0; n < dx.rows; ++n) {
    const int32_t id = ids[n];
    if (id < 0 || id >= dtable.rows) {
      if (c == 0) SetFault(fault, DeviceFault::kRow);
      continue;
    }
    float* to = dtable.data + id * dtable.stride + c;
    *to = *to + dx.data[n * dx.stride + c];
  }
}

// A thread a pair.
__global__ void rope_f32(RopeArgs args, uint32_t* fault) {
  const GroupedRows<float>& x = args.x;
  const int64_t half = x.columns / 2;
  const int64_t i = ThreadOfGrid(), j = i % half, head = i / half;
  const int64_t group = head % x.groups, n = head / x.groups;
  if (n >= x.rows) return;
  const int32_t at = args.position[n];
  if (at < 0 || at >= args.cos_sin.rows) {
    if (j == 0 && group == 0) SetFault(fault, DeviceFault::kRow);
    return;
  }
  const float* table = args.cos_sin.data + at * args.cos_sin.stride;
  const float cos = table[j], sin = args.sign * table[half + j];
  float* row = x.data + n * x.stride + group * x.group_stride;
  float* a = row + (args.interleaved ? 2 * j : j);
  float* b = args.interleaved ? a + 1 : a + half;
  const float first = *a, second = *b;
  *a = Fma(first, cos, 0.0f - second * sin);
  *b = Fma(first, sin, second * cos);
}

__global__ void swiglu_f32(Rows<const float> gate, Rows<const float> up,
                           Rows<float> h) {
  const int64_t i = ThreadOfGrid(), n = i / h.columns, c = i % h.columns;
  if (n >= h.rows) return;
  const float g = gate.data[n * gate.stride + c];
  h.data[n * h.stride + c] = g * Sigmoid(g) * up.data[n * up.stride + c];
}

__global__ void swiglu_backward_f32(SwiGluGrads x) {
  const int64_t i = ThreadOfGrid(), n = i / x.dh.columns, c = i % x.dh.columns;
  if (n >= x.dh.rows) return;
  const float g = x.gate.data[n * x.gate.stride + c];
  const float u = x.up.data[n * x.up.stride + c];
  const float d = x.dh.data[n * x.dh.stride + c];
  const float s = Sigmoid(g);
  const float slope = s * Fma(g, 1.0f - s, 1.0f);
  x.dgate.data[n * x.dgate.stride + c] = d * u * slope;
  x.dup.data[n * x.dup.stride + c] = d * (g * s);
}

// Integers: the order in which they are added does not show.
__global__ void count_equal_rows_i32(Rows<const int32_t> a,
                                     Rows<const int32_t> b,
                                     unsigned long long* count) {
  const int64_t n = ThreadOfGrid();
  if (n >= a.rows) return;
  for (int64_t c = 0; c < a.columns; ++c) {
    if (a.data[n * a.stride + c] != b.data[n * b.stride + c]) return;
  }
  atomicAdd(count, 1ull);
}

}  // namespace

void Copy(const View& from, const View& to, Element element, Stream stream) {
  TEMPER_LAUNCH_THREADS(copy_any, to.elements, stream, from, to, element);
}

void Fill(const View& x, Element element, Stream stream) {
  TEMPER_LAUNCH_THREADS(zero_any, x.elements, stream, x, element);
}

void Add(const View& y, const View& x, Stream stream) {
  TEMPER_LAUNCH_THREADS(add_f32, x.elements, stream, y, x);
}

void Scale(float factor, const View& x, Stream stream) {
  TEMPER_LAUNCH_THREADS(scale_f32, x.elements, stream, factor, x);
}

void MoveRows(const TypedRows& from, const int32_t* index, const TypedRows& to,
              Element element, Move move, uint32_t* fault, Stream stream) {
  const int64_t n =
      (move == Move::kGather ? to.rows : from.rows) * from.columns;
  if (n == 0) return;
  const unsigned threads = ThreadsFor(n);
  TEMPER_LAUNCH(move_rows_any, BlocksFor(n, threads), threads, 0, stream, from,
                index, to, element, move, fault);
}

void EmbedBackward(const int32_t* ids, const Rows<const float>& dx,
                   const Rows<float>& dtable, uint32_t* fault, Stream stream) {
  TEMPER_LAUNCH_THREADS(embed_backward_f32, dx.columns, stream, ids, dx, dtable,
                        fault);
}

void Rope(const RopeArgs& args, uint32_t* fault, Stream stream) {
  TEMPER_LAUNCH_THREADS(rope_f32,
                        args.x.rows * args.x.groups * (args.x.columns / 2),
                        stream, args, fault);
}

void SwiGlu(const Rows<const float>& gate, const Rows<const float>& up,
            const Rows<float>& h, Stream stream) {
  TEMPER_LAUNCH_THREADS(swiglu_f32, h.rows * h.columns, stream, gate, up, h);
}

void SwiGluBackward(const SwiGluGrads& args, Stream stream) {
  TEMPER_LAUNCH_THREADS(swiglu_backward_f32, args.dh.rows * args.dh.columns,
                        stream, args);
}

void CountEqualRows(const Rows<const int32_t>& a, const Rows<const int32_t>& b,
                    int64_t* count, Stream stream) {
  static_assert(sizeof(unsigned long long) == sizeof(int64_t));
  TEMPER_LAUNCH_THREADS(count_equal_rows_i32, a.rows, stream, a, b,
                        reinterpret_cast<unsigned long long*>(count));
}

}  // namespace temper::cuda
