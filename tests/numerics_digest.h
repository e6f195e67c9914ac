// Digests of what a tiny seeded model computes on a backend: its logits, what
// is sampled from it, and its weights after three steps of training.

#ifndef TESTS_NUMERICS_DIGEST_H_
#define TESTS_NUMERICS_DIGEST_H_

#include <map>
#include <string>

#include "kernels/ops/backend.h"
#include "kernels/tensor/numerics.h"

namespace temper {

// By name, "fp32 logits" among them. CHECKs that all works.
std::map<std::string, std::string> NumericsDigests(Backend* backend,
                                                   const Numerics& numerics);

// What they are to be. Two backends that agree are not enough: a change of the
// definition moves both alike.
const std::map<std::string, std::string>& CommittedDigests();

}  // namespace temper

#endif  // TESTS_NUMERICS_DIGEST_H_
