// Lines of kernels. What touches memory by a plain load or store is known by
// its instruction, what goes through a word or a wrapper by the line of its
// call; a site is either, in four bytes, for there is one of each byte of
// shared memory.

#ifndef KERNELS_CUDA_SIMT_SITE_H_
#define KERNELS_CUDA_SIMT_SITE_H_

#include <cstdint>
#include <string>

namespace temper::simt {

// The line of a call, as a default argument. (What clang 14 has of the
// standard's.)
struct Where {
  static constexpr Where Here(const char* file = __builtin_FILE(),
                              uint32_t line = __builtin_LINE()) {
    return {file, line};
  }

  const char* file = "";
  uint32_t line = 0;
};

class Site {
 public:
  Site() = default;
  // Of the call that returns to `return_address`.
  static Site OfInstruction(const void* return_address);
  // Of a call of which `where` is the default argument.
  static Site OfCall(const Where& where);

  // The file's name, without folders, and the line. Of an instruction, what
  // addr2line says (of inlined code the line in the .cu), else its address.
  std::string Text() const;

 private:
  explicit Site(uint32_t code) : code_(code) {}

  // Of an instruction its offset in the program; else the top bit, and the
  // call's number.
  uint32_t code_ = 0;
};

}  // namespace temper::simt

#endif  // KERNELS_CUDA_SIMT_SITE_H_
