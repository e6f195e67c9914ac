#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "gtest/gtest.h"
#include "kernels/ops/testing/key_case.h"
#include "kernels/ops/testing/op_case.h"
#include "kernels/ops/testing/shape_case.h"

namespace temper {
namespace {

constexpr int64_t kRows = 37, kSlots = 50, kLatent = 21, kIndex = 13;

// Slots that differ, some of them -1.
Ints SomeSlots() {
  Ints slots;
  for (int64_t n = 0; n < kRows; ++n) {
    slots.push_back(n % 5 == 2 ? -1 : static_cast<int32_t>(n * 7 % kSlots));
  }
  return slots;
}

TEST(WriteKeysTest, RowsGoToTheirSlotsAndNowhereElse) {
  Floats latent = Normals(1, kRows * kLatent),
         index = Normals(2, kRows * kIndex);
  Ints slots = SomeSlots();
  Floats want_latent(kSlots * kLatent, 7.0f), want_index(kSlots * kIndex, 7.0f);
  for (int64_t n = 0; n < kRows; ++n) {
    if (slots[n] < 0) continue;
    std::copy_n(&latent[n * kLatent], kLatent,
                &want_latent[slots[n] * kLatent]);
    std::copy_n(&index[n * kIndex], kIndex, &want_index[slots[n] * kIndex]);
  }
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Floats got_latent(kSlots * kLatent, 7.0f), got_index(kSlots * kIndex, 7.0f);
    backend->WriteKeys({.latent = View(latent, {kRows, kLatent}),
                        .index_keys = View(index, {kRows, kIndex}),
                        .slot = View(slots, {kRows}),
                        .latent_strip = View(got_latent, {kSlots, kLatent}),
                        .index_strip = View(got_index, {kSlots, kIndex})});
    ExpectSameBits(got_latent, want_latent, name);
    ExpectSameBits(got_index, want_index, name);
    EXPECT_TRUE(backend->Sync().ok());
    slots[3] = kSlots;
    backend->WriteKeys({.latent = View(latent, {kRows, kLatent}),
                        .index_keys = View(index, {kRows, kIndex}),
                        .slot = View(slots, {kRows}),
                        .latent_strip = View(got_latent, {kSlots, kLatent}),
                        .index_strip = View(got_index, {kSlots, kIndex})});
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kRow)) << name;
    EXPECT_TRUE(backend->Sync().ok()) << "said once";
    slots = SomeSlots();
  }
}

TEST(WriteKeysTest, WhatGoesToANarrowStripIsRounded) {
  Floats latent = EdgyNormals(1, kRows * kLatent),
         index = EdgyNormals(2, kRows * kIndex);
  Ints slots;
  for (int32_t n = 0; n < kRows; ++n) slots.push_back(n);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Stored latent_strip(Floats(kRows * kLatent), DType::kBF16);
    Stored index_strip(Floats(kRows * kIndex), DType::kBF16);
    backend->WriteKeys({.latent = View(latent, {kRows, kLatent}),
                        .index_keys = View(index, {kRows, kIndex}),
                        .slot = View(slots, {kRows}),
                        .latent_strip = latent_strip.View({kRows, kLatent}),
                        .index_strip = index_strip.View({kRows, kIndex})});
    for (const auto& [from, strip, columns] :
         {std::tuple{&latent, &latent_strip, kLatent},
          std::tuple{&index, &index_strip, kIndex}}) {
      Floats want = *from, got(from->size());
      for (float& x : want) x = reference::RoundToBf16(x);
      backend->Copy(strip->View({kRows, columns}), View(got, {kRows, columns}));
      ExpectSameBits(got, want, name);
    }
  }
}

// Byte by byte, in slots of two pages; a slot that nobody writes keeps its own.
TEST(WriteKeysTest, WhatGoesToAnFp8StripIsQuantisedInThePublishedLayout) {
  constexpr int64_t kColumns = 133 + 7, kRope = 7, kSlotsInPages = 100;
  Floats latent = Normals(1, kRows * kColumns),
         index = Normals(2, kRows * kIndex);
  for (int64_t i = 0; i < kRows * kIndex; i += 9) index[i] *= 1000;
  Ints slots = SomeSlots();
  slots[1] = 99;
  Floats by_slot(kSlotsInPages * kColumns),
      index_by_slot(kSlotsInPages * kIndex);
  std::vector<bool> written(kSlotsInPages);
  for (int64_t n = 0; n < kRows; ++n) {
    if (slots[n] < 0) continue;
    written[slots[n]] = true;
    std::copy_n(&latent[n * kColumns], kColumns, &by_slot[slots[n] * kColumns]);
    std::copy_n(&index[n * kIndex], kIndex, &index_by_slot[slots[n] * kIndex]);
  }
  const KeyStrip want_latent =
      KeyStrip::Latent(by_slot, kColumns, kRope, DType::kF8E4M3);
  const KeyStrip want_index =
      KeyStrip::Index(index_by_slot, kIndex, DType::kF8E4M3);
  const int64_t row_bytes = LatentRowBytes(kColumns - kRope, kRope);
  ASSERT_EQ(row_bytes, 133 + 2 * 4 + 7 * 2);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    if (!Multiplies(*backend, DType::kF8E4M3)) continue;
    std::vector<uint8_t> rows(kSlotsInPages * row_bytes, 0xa5);
    std::vector<uint8_t> pages(2 * IndexPageBytes(kIndex), 0xa5);
    WriteKeysArgs args = {.latent = View(latent, {kRows, kColumns}),
                          .index_keys = View(index, {kRows, kIndex}),
                          .slot = View(slots, {kRows}),
                          .latent_strip = Tensor(rows.data(), DType::kF8E4M3,
                                                 {kSlotsInPages, row_bytes}),
                          .index_strip = Tensor(pages.data(), DType::kF8E4M3,
                                                {2, IndexPageBytes(kIndex)}),
                          .rope = kRope};
    backend->WriteKeys(args);
    EXPECT_TRUE(backend->Sync().ok()) << name;
    for (int64_t slot = 0; slot < kSlotsInPages; ++slot) {
      const auto same = [&](const std::vector<uint8_t>& got,
                            const std::vector<uint8_t>& want, int64_t begin,
                            int64_t bytes) {
        for (int64_t i = begin; i < begin + bytes; ++i) {
          if (got[i] != (written[slot] ? want[i] : 0xa5)) return false;
        }
        return true;
      };
      const int64_t page = slot / 64 * IndexPageBytes(kIndex);
      EXPECT_TRUE(
          same(rows, want_latent.bytes(), slot * row_bytes, row_bytes) &&
          same(pages, want_index.bytes(), page + slot % 64 * kIndex, kIndex) &&
          same(pages, want_index.bytes(), page + 64 * kIndex + slot % 64 * 4,
               4))
          << "slot " << slot << " on " << name;
    }
    const auto fault_with = [&](auto* value, auto bad) {
      const auto good = std::exchange(*value, bad);
      backend->WriteKeys(args);
      *value = good;
      return backend->Sync();
    };
    EXPECT_EQ(fault_with(&latent[0], std::nanf("")),
              StatusOf(DeviceFault::kNumbers))
        << name;
    EXPECT_EQ(fault_with(&index[5], HUGE_VALF), StatusOf(DeviceFault::kNumbers))
        << name;
    EXPECT_EQ(fault_with(&slots[3], 128), StatusOf(DeviceFault::kRow)) << name;
  }
}

TEST(RouteStripTest, TheGateLeavesRoutesInTheirSlotsChosenOrReplayed) {
  constexpr int64_t kExperts = 12, kChosen = 3;
  Floats logits = Normals(3, kRows * kExperts), bias(kExperts, 0.0f);
  Ints slots = SomeSlots();
  for (const auto& [name, backend] : BackendsUnderTest()) {
    for (const bool replay : {false, true}) {
      Floats scores(kRows * kExperts), gates(kRows * kChosen);
      Ints routes(kRows * kChosen, -1);
      if (replay) {
        for (int64_t i = 0; i < kRows * kChosen; ++i) {
          routes[i] = static_cast<int32_t>(i % kChosen + 2);
        }
      }
      std::vector<uint8_t> narrow(kSlots * kChosen, 77);
      std::vector<uint16_t> wide(kSlots * kChosen, 777);
      MoeGateArgs args = {.logits = View(logits, {kRows, kExperts}),
                          .bias = View(bias, {kExperts}),
                          .slot = View(slots, {kRows}),
                          .scores = View(scores, {kRows, kExperts}),
                          .routes = View(routes, {kRows, kChosen}),
                          .gates = View(gates, {kRows, kChosen})};
      args.strip = Tensor(narrow.data(), DType::kU8, {kSlots, kChosen});
      backend->MoeGate(args);
      args.strip = Tensor(wide.data(), DType::kU16, {kSlots, kChosen});
      backend->MoeGate(args);
      std::vector<uint8_t> want_narrow(kSlots * kChosen, 77);
      std::vector<uint16_t> want_wide(kSlots * kChosen, 777);
      for (int64_t n = 0; n < kRows; ++n) {
        if (slots[n] < 0) continue;
        for (int64_t a = 0; a < kChosen; ++a) {
          const int32_t route = routes[n * kChosen + a];
          want_narrow[slots[n] * kChosen + a] = static_cast<uint8_t>(route);
          want_wide[slots[n] * kChosen + a] = static_cast<uint16_t>(route);
        }
      }
      EXPECT_EQ(narrow, want_narrow) << name;
      EXPECT_EQ(wide, want_wide) << name;
      EXPECT_TRUE(backend->Sync().ok());
    }
  }
}

TEST(RouteStripTest, LiveChoosesInEveryRowAndAWrongRouteIsAFault) {
  constexpr int64_t kExperts = 12, kChosen = 3;
  Floats logits = Normals(3, kRows * kExperts), bias(kExperts, 0.0f);
  for (const auto& [name, backend] : BackendsUnderTest()) {
    // Not the binding, which a lambda of clang 14 cannot have.
    Backend& device = *backend;
    const auto gate = [&](Ints* routes, bool live) {
      Floats scores(kRows * kExperts), gates(kRows * kChosen);
      device.MoeGate({.logits = View(logits, {kRows, kExperts}),
                      .bias = View(bias, {kExperts}),
                      .live = live,
                      .scores = View(scores, {kRows, kExperts}),
                      .routes = View(*routes, {kRows, kChosen}),
                      .gates = View(gates, {kRows, kChosen})});
    };
    Ints chosen(kRows * kChosen, -1), given(kRows * kChosen, 0);
    gate(&chosen, false);
    gate(&given, true);
    EXPECT_EQ(given, chosen) << name;
    EXPECT_TRUE(backend->Sync().ok());
    given[4] = kExperts;
    gate(&given, false);
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kRoute)) << name;
  }
}

TEST(CountEqualRowsTest, CountsRowsThatAreEqualInAllTheirNumbers) {
  constexpr int64_t kChosen = 3;
  Ints a, b;
  int64_t equal = 0;
  for (int64_t n = 0; n < kRows; ++n) {
    const bool differs = n % 3 == 1;
    equal += !differs;
    for (int64_t i = 0; i < kChosen; ++i) {
      a.push_back(static_cast<int32_t>(n + i));
      b.push_back(a.back() + (differs && i == n % kChosen ? 1 : 0));
    }
  }
  for (const auto& [name, backend] : BackendsUnderTest()) {
    int64_t count = 1000;
    backend->CountEqualRows(View(a, {kRows, kChosen}),
                            View(b, {kRows, kChosen}),
                            Tensor(&count, DType::kI64, {1}));
    EXPECT_EQ(count, 1000 + equal) << name;
  }
}

TEST(CheckNumbersTest, WhatIsTooLargeOrNoNumberIsAFaultThatIsSaidOnce) {
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Floats x = Normals(5, kRows * kLatent);
    Stored narrow(x, DType::kBF16);
    backend->CheckNumbers(narrow.View({kRows, kLatent}), 2);
    EXPECT_TRUE(backend->Sync().ok()) << name;
    backend->CheckNumbers(narrow.View({kRows, kLatent}), 0.5);
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kNumbers)) << name;
    const Tensor view = View(x, {kRows, kLatent});
    backend->CheckNumbers(view, 2);
    EXPECT_TRUE(backend->Sync().ok()) << name;
    backend->CheckNumbers(view, 0.5);
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kNumbers)) << name;
    EXPECT_TRUE(backend->Sync().ok());
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity()}) {
      x[100] = bad;
      backend->CheckNumbers(view, 1e30);
      EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kNumbers)) << name;
    }
  }
}

// Values that only the device sees: each is a fault, nothing beyond an
// operation's memory is touched (operands have no room beside them here), and
// the next operation is none the worse.
TEST(DeviceFaultTest, WhatAnIndexMayNotBe) {
  for (const auto& [name, backend] : BackendsUnderTest()) {
    Floats table = Normals(1, 6 * 4), three(3 * 4);
    Ints rows = {0, 6, 2}, ids = {5, -1, 0};
    backend->GatherRows(View(table, {6, 4}), View(rows, {3}),
                        View(three, {3, 4}));
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kRow)) << name;
    backend->Embed(View(table, {6, 4}), View(ids, {3}), View(three, {3, 4}));
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kRow)) << name;
    backend->EmbedBackward(View(ids, {3}), View(three, {3, 4}),
                           View(table, {6, 4}));
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kRow)) << name;
    Ints routes = {0, 3}, offsets(4), order(2), place(2);
    backend->MoePlan({.routes = View(routes, {1, 2}),
                      .offsets = View(offsets, {4}),
                      .rows = View(order, {2}),
                      .place = View(place, {1, 2})});
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kRoute)) << name;
    const auto weight = Pack(*backend, Normals(2, 2 * 4 * 4), 2, 4, 4);
    Ints uneven = {0, 2, 1};
    backend->GroupedLinear({.x = View(three, {3, 4}),
                            .offsets = View(uneven, {3}),
                            .w = weight.get(),
                            .y = View(three, {3, 4})});
    EXPECT_EQ(backend->Sync(), StatusOf(DeviceFault::kOffsets)) << name;
    Ints right = {0, 2};
    Floats two(2 * 4);
    backend->GatherRows(View(table, {6, 4}), View(right, {2}),
                        View(two, {2, 4}));
    EXPECT_TRUE(backend->Sync().ok()) << name;
  }
}

TEST(DeviceFaultTest, WhatATargetAndItsKeptSetMayNotBe) {
  constexpr int64_t kVocabulary = 9, kDepth = 4;
  for (const auto& [name, backend] : BackendsUnderTest()) {
    // Not the binding, which a lambda of clang 14 cannot have.
    Backend& device = *backend;
    Floats w = Normals(1, kVocabulary * kDepth), x = Normals(2, kDepth);
    const auto weight = Pack(*backend, w, 1, kVocabulary, kDepth);
    const auto fault = [&](int32_t target, Ints kept) {
      Ints targets = {target};
      const auto count = static_cast<int64_t>(kept.size());
      Ints offsets = {0, static_cast<int32_t>(count)};
      kept.push_back(0);  // room, so that none has an address
      Floats logp(1), lse(1), entropy(1);
      device.LogProb({.x = View(x, {1, kDepth}),
                      .w = weight.get(),
                      .rows = View(w, {kVocabulary, kDepth}),
                      .targets = View(targets, {1}),
                      .kept_offsets = View(offsets, {2}),
                      .kept_ids = View(kept, {count}),
                      .logp = View(logp, {1}),
                      .lse = View(lse, {1}),
                      .entropy = View(entropy, {1})});
      return device.Sync();
    };
    EXPECT_TRUE(fault(3, {}).ok()) << name;
    EXPECT_TRUE(fault(3, {1, 3, 8}).ok()) << name;
    EXPECT_EQ(fault(9, {}), StatusOf(DeviceFault::kTarget)) << name;
    EXPECT_EQ(fault(-1, {}), StatusOf(DeviceFault::kTarget)) << name;
    EXPECT_EQ(fault(2, {1, 3, 8}), StatusOf(DeviceFault::kTarget)) << name;
    EXPECT_EQ(fault(3, {1, 3, 9}), StatusOf(DeviceFault::kKeptSet)) << name;
    EXPECT_EQ(fault(3, {3, 3, 8}), StatusOf(DeviceFault::kKeptSet)) << name;
    EXPECT_EQ(fault(3, {3, 1, 8}), StatusOf(DeviceFault::kKeptSet)) << name;
  }
}

TEST(WriteKeysTest, ShapesAreHeld) {
  using namespace sizes;
  Memory m;
  using W = WriteKeysArgs;
  ExpectShapesAreHeld<W>(&Backend::WriteKeys,
                         {.latent = m.F({N, C + R}),
                          .index_keys = m.F({N, Di}),
                          .slot = m.I({N}, {0, 1, 2}),
                          .latent_strip = m.F({Rows, C + R}),
                          .index_strip = m.F({Rows, Di})},
                         {{"latent", &W::latent, {0, 1}},
                          {"index_keys", &W::index_keys, {0, 1}},
                          {"slot", &W::slot, {0}},
                          {"latent_strip", &W::latent_strip, {1}},
                          {"index_strip", &W::index_strip, {1}}});
}

}  // namespace
}  // namespace temper
