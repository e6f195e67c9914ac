#include "environments/search/top_hits.h"

#include <algorithm>

namespace temper {
namespace {

// Bounds are sums in another order than scores, and may come out lower by some
// last bits.
constexpr double kBoundSlack = 1 + 1e-12;

struct Cursor {
  const PostingList* list;
  size_t place;  // in the query
  uint32_t at = 0;

  bool done() const { return at >= list->count; }
  uint32_t passage() const { return list->passages[at]; }

  // Goes to the first passage that is not before `passage`: in steps that
  // double, then by halves, for the next one is near as a rule.
  void Seek(uint32_t passage) {
    uint32_t step = 1;
    while (step < list->count - at && list->passages[at + step] < passage) {
      at += step;
      if (step < 1u << 30) step *= 2;
    }
    const uint32_t* const end =
        list->passages + at + std::min(step, list->count - at);
    at = static_cast<uint32_t>(
        std::lower_bound(list->passages + at, end, passage) - list->passages);
  }
};

bool Better(const Hit& a, const Hit& b) {
  return a.score != b.score ? a.score > b.score : a.passage < b.passage;
}

class Collector {
 public:
  Collector(const std::vector<PostingList>& lists, size_t count)
      : count_(count), impacts_(lists.size()) {
    for (size_t place = 0; place < lists.size(); ++place) {
      cursors_.push_back({.list = &lists[place], .place = place});
    }
    std::stable_sort(cursors_.begin(), cursors_.end(),
                     [](const Cursor& a, const Cursor& b) {
                       return a.list->impact_max < b.list->impact_max;
                     });
    bounds_.push_back(0);
    for (const Cursor& cursor : cursors_) {
      bounds_.push_back(bounds_.back() + cursor.list->impact_max);
    }
  }

  std::vector<Hit> Run() {
    uint32_t passage = 0;
    while (NextPassage(&passage)) {
      const double of_essential = TakeEssential(passage);
      if (TakeOthers(passage, of_essential)) Offer(passage);
    }
    std::sort(hits_.begin(), hits_.end(), Better);
    return std::move(hits_);
  }

 private:
  bool NextPassage(uint32_t* passage) const {
    bool found = false;
    for (size_t i = essential_; i < cursors_.size(); ++i) {
      if (cursors_[i].done()) continue;
      if (!found || cursors_[i].passage() < *passage) {
        *passage = cursors_[i].passage();
      }
      found = true;
    }
    return found;
  }

  // The impacts on `passage` of the lists that are gone through.
  double TakeEssential(uint32_t passage) {
    double sum = 0;
    for (size_t i = essential_; i < cursors_.size(); ++i) {
      Cursor& cursor = cursors_[i];
      float& impact = impacts_[cursor.place];
      impact = 0;
      if (cursor.done() || cursor.passage() != passage) continue;
      impact = cursor.list->impacts[cursor.at++];
      sum += impact;
    }
    return sum;
  }

  // Those of the others; false as soon as the passage can be no hit.
  bool TakeOthers(uint32_t passage, double sum) {
    for (size_t i = essential_; i > 0; --i) {
      if (!MayEnter(sum + bounds_[i])) return false;
      Cursor& cursor = cursors_[i - 1];
      float& impact = impacts_[cursor.place];
      impact = 0;
      if (!cursor.done()) cursor.Seek(passage);
      if (cursor.done() || cursor.passage() != passage) continue;
      impact = cursor.list->impacts[cursor.at];
      sum += impact;
    }
    return true;
  }

  // Passages come ascending: one of an equal score is behind the hits there
  // are.
  bool MayEnter(double bound) const {
    return hits_.size() < count_ || bound * kBoundSlack > hits_.front().score;
  }

  void Offer(uint32_t passage) {
    Hit hit{passage, 0};
    for (const float impact : impacts_) hit.score += impact;
    if (hits_.size() == count_) {
      if (!Better(hit, hits_.front())) return;
      std::pop_heap(hits_.begin(), hits_.end(), Better);
      hits_.pop_back();
    }
    hits_.push_back(hit);
    std::push_heap(hits_.begin(), hits_.end(), Better);
    while (essential_ < cursors_.size() && !MayEnter(bounds_[essential_ + 1])) {
      ++essential_;
    }
  }

  const size_t count_;
  std::vector<Cursor> cursors_;  // ascending by their largest impact
  std::vector<double> bounds_;   // of the first i cursors together
  size_t essential_ = 0;         // the first cursor that is gone through
  std::vector<float> impacts_;   // on the passage looked at, by place
  std::vector<Hit> hits_;        // a heap, the worst at the front
};

}  // namespace

std::vector<Hit> TopHits(const std::vector<PostingList>& lists, size_t count) {
  if (count == 0) return {};
  return Collector(lists, count).Run();
}

}  // namespace temper
