#include "kernels/cuda/simt/work.h"

#include <utility>

namespace temper::simt {
namespace {

Work so_far;

}  // namespace

Work TakeWork() { return std::exchange(so_far, Work()); }

void NoteWork(const Work& work) {
  so_far.bytes_copied += work.bytes_copied;
  so_far.multiplications += work.multiplications;
}

}  // namespace temper::simt
