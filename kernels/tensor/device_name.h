// What a kind of device is called, in files, on the wire and in messages.
//
// A function without state; thread-safe.

#ifndef KERNELS_TENSOR_DEVICE_NAME_H_
#define KERNELS_TENSOR_DEVICE_NAME_H_

#include "kernels/tensor/tensor.h"

namespace temper {

inline const char* NameOf(Device device) {
  return device == Device::kCuda ? "cuda" : "cpu";
}

}  // namespace temper

#endif  // KERNELS_TENSOR_DEVICE_NAME_H_
