// OpTable: one implementation of an op for each kind of device. An op's public function checks the
// operands, finds the implementation for the stream's device here and calls it. Implementations are
// set by explicit registration (RegisterCpuKernels, RegisterReferenceKernels), never by static
// initialisers.
#pragma once

#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kernels/device/device.h"

namespace weft::kernels {

template <typename Function>
class OpTable {
 public:
  constexpr explicit OpTable(const char* name) : name_(name) {}

  void Set(DeviceKind kind, Function* function) {
    functions_[static_cast<size_t>(kind)] = function;
  }

  // kUnimplemented, naming the op and the device, when the device has no such op.
  [[nodiscard]] absl::StatusOr<Function*> Find(DeviceKind kind) const {
    Function* function = functions_[static_cast<size_t>(kind)];
    if (function == nullptr) {
      return absl::UnimplementedError(absl::StrCat("no ", name_, " on ", NameOf(kind)));
    }
    return function;
  }

  // Finds the implementation for the stream's device and calls it.
  template <typename... Args>
  absl::Status Call(Stream& stream, Args&&... args) const {
    absl::StatusOr<Function*> function = Find(stream.device().kind());
    if (!function.ok()) return function.status();
    return (**function)(stream, std::forward<Args>(args)...);
  }

 private:
  const char* name_;
  std::array<Function*, kDeviceKinds> functions_{};
};

}  // namespace weft::kernels
