// MLA in its absorbed form: the key of a token is [latent C | rope R], its
// value the latent (DeepSeek-V3.2 paper, figure 7). Selected keys come in
// blocks of 64 with a running maximum (Milakov and Gimelshein 2018), which is
// how a GPU does it: the blocks are cut by place in the list alone, so that the
// bits depend neither on where keys lie nor on which queries are together.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/key_rows.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/softmax_log.h"
#include "kernels/ops/shape_check.h"

namespace temper {
namespace {

// Floats that the probabilities kept between the backward's two phases may
// take: a chunk stays within the second level caches' reach.
constexpr int64_t kBackwardFloats = int64_t{1} << 20;

// The operands of SparseMla and its backward, checked.
struct Mla {
  template <typename Args>
  explicit Mla(const Args& args)
      : q(AsGroupedRows<float>(args.q)),
        keys(AsLatentStrip(args.keys, q.columns, q.columns - args.z.dim(2))),
        map(args.map, q.rows, keys.rows),
        selected(AsRows<int32_t>(args.selected)),
        z(AsGroupedRows<float>(args.z)),
        lse(AsRows<float>(args.lse)),
        top_k(selected.columns),
        row(RoundUp16(selected.columns)) {
    CheckShapes(args);
  }

  // For the products with keys, whichever it is.
  int64_t product_floats() const {
    return std::max(ProductsScratch(keys, q.groups, q.columns),
                    SumScratch(keys, q.groups, q.columns));
  }
  // Of the forward's scratch: scores and a running softmax for each head, the
  // rows of the keys, then what the products need.
  int64_t products_at() const {
    return RoundUp16(q.groups * (kKeyBlock + 2)) + row;
  }
  int64_t keys_at() const { return products_at() + product_floats(); }
  int64_t forward_floats() const {
    return keys_at() + KeysRoom(keys, kKeyBlock);
  }

  GroupedRows<float> q;
  Strip keys;
  KeyRows map;
  Rows<int32_t> selected;
  GroupedRows<float> z;
  Rows<float> lse;
  int64_t top_k;
  int64_t row;  // floats between heads' scores in scratch
};
static_assert(sizeof(RunningSoftmax) == 2 * sizeof(float));

// One block of keys: every head's scores and exponentials, then z by what the
// new maximum leaves of it, and the block's product added onto that. On the
// first block there is no z yet, and c = exp(-inf) = 0 would make it +0.
void AttendToBlock(const TierKernels& kernels, const Mla& mla, float scale,
                   int64_t n, const int32_t* rows, int64_t count, bool first,
                   float* scores, RunningSoftmax* runs, float* scratch,
                   float* room) {
  const int64_t heads = mla.q.groups;
  const Keys keys = KeysOf(kernels, mla.keys, rows, count, Scaled::kYes, room);
  ProductsWithKeys(kernels, keys.strip, keys.rows, count,
                   {.a = mla.q.row(n, 0),
                    .a_row = mla.q.group_stride,
                    .m = heads,
                    .dims = mla.q.columns,
                    .out = scores,
                    .out_row = kKeyBlock},
                   {}, scratch);
  for (int64_t h = 0; h < heads; ++h) {
    const float c =
        kernels.softmax_block(scale, scores + h * kKeyBlock, count, &runs[h]);
    // Times 1 changes nothing: the maximum stands as a rule.
    if (!first && c != 1) kernels.scale(c, mla.z.row(n, h), mla.z.columns);
  }
  SumKeys(kernels, keys.strip, keys.rows, count,
          {.a = scores,
           .a_row = kKeyBlock,
           .m = heads,
           .y = mla.z.row(n, 0),
           .y_row = mla.z.group_stride,
           .columns = mla.z.columns,
           .onto = !first},
          scratch);
}

}  // namespace

void CpuBackend::SparseMla(const SparseMlaArgs& args) {
  const Mla mla(args);
  const int64_t heads = mla.q.groups;
  ForEachQuery(&pool_, mla.q.rows, [&](int thread, int64_t n) {
    float* scores = Scratch(thread, mla.forward_floats());
    auto* runs = reinterpret_cast<RunningSoftmax*>(scores + heads * kKeyBlock);
    auto* rows = reinterpret_cast<int32_t*>(runs + heads);
    float* products = scores + mla.products_at();
    const int64_t count =
        mla.map.Selected(n, mla.selected.row(n), mla.top_k, rows);
    std::fill_n(runs, heads, RunningSoftmax());
    for (int64_t first = 0; first < count; first += kKeyBlock) {
      AttendToBlock(tier_, mla, args.scale, n, rows + first,
                    std::min(kKeyBlock, count - first), first == 0, scores,
                    runs, products, scores + mla.keys_at());
    }
    for (int64_t h = 0; h < heads; ++h) {
      float* z = mla.z.row(n, h);
      if (count == 0) {  // not 0 / 0
        std::fill_n(z, mla.z.columns, 0.0f);
      } else {
        tier_.divide(runs[h].sum, z, mla.z.columns);
      }
      mla.lse.row(n)[h] =
          count == 0 ? -std::numeric_limits<float>::infinity()
                     : static_cast<float>(runs[h].largest +
                                          SoftmaxLog(double{runs[h].sum}));
    }
  });
  if (mla.map.bad()) SetFault(DeviceFault::kRow);
}

namespace {

// What one query leaves for the backward's second phase, in scratch.
struct MlaRecord {
  MlaRecord(const Mla& mla, float* at)
      : p(at),
        ds(at + mla.q.groups * mla.row),
        rows(reinterpret_cast<int32_t*>(ds + mla.q.groups * mla.row)),
        count(rows + mla.row) {}
  static int64_t Floats(const Mla& mla) {
    return 2 * mla.q.groups * mla.row + mla.row + 16;
  }

  float* p;       // [H, row] probabilities
  float* ds;      // [H, row] gradients of the products
  int32_t* rows;  // [row] of the keys
  int32_t* count;
};

// P = exp(S - lse), dS = scale P (dP - z . dz) with dP = dz . k; writes dq.
void MlaQueryGradient(const TierKernels& kernels, const Mla& mla, float scale,
                      const GroupedRows<float>& dz,
                      const GroupedRows<float>& dq, int64_t n,
                      const MlaRecord& record, float* scratch) {
  const int64_t heads = mla.q.groups;
  const int64_t count =
      mla.map.Selected(n, mla.selected.row(n), mla.top_k, record.rows);
  *record.count = static_cast<int32_t>(count);
  const Keys keys = KeysOf(kernels, mla.keys, record.rows, count, Scaled::kYes,
                           scratch + mla.product_floats());
  ProductsWithKeys(kernels, keys.strip, keys.rows, count,
                   {.a = mla.q.row(n, 0),
                    .a_row = mla.q.group_stride,
                    .m = heads,
                    .dims = mla.q.columns,
                    .out = record.p,
                    .out_row = mla.row},
                   {.a = dz.row(n, 0),
                    .a_row = dz.group_stride,
                    .m = heads,
                    .dims = dz.columns,
                    .out = record.ds,
                    .out_row = mla.row},
                   scratch);
  for (int64_t h = 0; h < heads; ++h) {
    float* p = record.p + h * mla.row;
    float* ds = record.ds + h * mla.row;
    kernels.scale(scale, p, count);
    kernels.exp(p, mla.lse.row(n)[h], p, count);
    const float delta = kernels.dot(mla.z.row(n, h), dz.row(n, h), dz.columns);
    kernels.softmax_grad(p, delta, scale, ds, count);
  }
  SumKeys(kernels, keys.strip, keys.rows, count,
          {.a = record.ds,
           .a_row = mla.row,
           .m = heads,
           .y = dq.row(n, 0),
           .y_row = dq.group_stride,
           .columns = mla.q.columns},
          scratch);
}

}  // namespace

// Queries are independent in the first phase; in the second each thread owns
// columns of dkeys and walks the queries in order, so nothing is atomic.
void CpuBackend::SparseMlaBackward(const SparseMlaBackwardArgs& args) {
  const Mla mla(args);
  const GroupedRows<float> dout = AsGroupedRows<float>(args.dz);
  const GroupedRows<float> dquery = AsGroupedRows<float>(args.dq);
  const Rows<float> dkey = AsRows<float>(args.dkeys);
  const int64_t heads = mla.q.groups;
  const int64_t latent = mla.z.columns;
  const bool narrow = mla.keys.in_pairs();
  const int64_t record = MlaRecord::Floats(mla);
  const int64_t chunk = std::clamp<int64_t>(kBackwardFloats / record, 1,
                                            std::max<int64_t>(mla.q.rows, 1));
  float* records = SharedScratch(chunk * record);
  for (int64_t first = 0; first < mla.q.rows; first += chunk) {
    const int64_t queries = std::min(chunk, mla.q.rows - first);
    ForEachQuery(&pool_, queries, [&](int thread, int64_t i) {
      MlaQueryGradient(
          tier_, mla, args.scale, dout, dquery, first + i,
          MlaRecord(mla, records + i * record),
          Scratch(thread, mla.product_floats() + KeysRoom(mla.keys, mla.row)));
    });
    pool_.ParallelFor(
        dkey.columns, kPanel, [&](int thread, int64_t begin, int64_t end) {
          float* scratch =
              Scratch(thread, GradientScratch(narrow, heads, end - begin));
          for (int64_t i = 0; i < queries; ++i) {
            const int64_t n = first + i;
            const MlaRecord at(mla, records + i * record);
            AddToKeys(tier_,
                      {at.ds, mla.row, mla.q.row(n, 0), mla.q.group_stride,
                       heads, narrow},
                      at.rows, *at.count, begin, end, dkey, scratch);
            AddToKeys(tier_,
                      {at.p, mla.row, dout.row(n, 0), dout.group_stride, heads,
                       narrow},
                      at.rows, *at.count, begin, std::min(end, latent), dkey,
                      scratch);
          }
        });
  }
  if (mla.map.bad()) SetFault(DeviceFault::kRow);
}

}  // namespace temper
