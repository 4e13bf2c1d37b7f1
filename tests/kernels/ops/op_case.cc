#include "tests/kernels/ops/op_case.h"

#include <cstdlib>
#include <optional>
#include <utility>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "kernels/device/cpu/cpu_device.h"
#include "kernels/device/host_values.h"
#include "kernels/device/reference/reference_device.h"
#include "kernels/ops/register.h"
#include "kernels/random/philox.h"

namespace weft::kernels {
namespace {

std::optional<InstructionSet> AskedInstructionSet() {
  const char* name = std::getenv("WEFT_TEST_ISA");  // NOLINT(concurrency-mt-unsafe): one thread
  if (name == nullptr) return std::nullopt;
  for (const InstructionSet set : kInstructionSets) {
    if (NameOf(set) == name) return set;
  }
  WEFT_CHECK_MSG(false, name);
  return std::nullopt;
}

DType TypeOn(const Device& device, const Array& array) {
  if (array.dtype == DType::kI32) return DType::kI32;
  if (array.fixed_f64) return DType::kF64;
  return array.is_sum ? device.sum_dtype() : device.compute_dtype();
}

absl::StatusOr<Tensor> Upload(const Array& array, Device& device, Stream& stream) {
  WEFT_ASSIGN_OR_RETURN(Tensor tensor, NewTensor(device, TypeOn(device, array), array.shape));
  WEFT_RETURN_IF_ERROR(WriteValues(tensor, array.values, stream));
  return tensor;
}

}  // namespace

Array AsSum(Array array) {
  array.is_sum = true;
  return array;
}

Array Normal(uint32_t seed, const Shape& shape, double deviation) {
  Array array{.shape = shape, .values = std::vector<double>(static_cast<size_t>(shape.count()))};
  FillNormal(20240131, {}, seed, 0, absl::MakeSpan(array.values));
  for (double& value : array.values) {
    value = static_cast<double>(static_cast<float>(value * deviation));
  }
  return array;
}

Array Zeros(const Shape& shape) {
  return {.shape = shape, .values = std::vector<double>(static_cast<size_t>(shape.count()))};
}

Array Integers(const Shape& shape, const std::vector<int32_t>& values) {
  WEFT_CHECK(shape.count() == static_cast<int64_t>(values.size()));
  return {.dtype = DType::kI32, .shape = shape, .values = {values.begin(), values.end()}};
}

absl::StatusOr<std::vector<std::vector<double>>> RunOn(const OpCase& op, Device& device) {
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<Stream> stream, device.NewStream());
  std::vector<Tensor> tensors;
  for (const Array& array : op.operands) {
    WEFT_ASSIGN_OR_RETURN(Tensor tensor, Upload(array, device, *stream));
    tensors.push_back(std::move(tensor));
  }
  WEFT_RETURN_IF_ERROR(op.call(*stream, absl::MakeSpan(tensors)));
  WEFT_RETURN_IF_ERROR(stream->Synchronize());
  std::vector<std::vector<double>> values;
  for (const Tensor& tensor : tensors) {
    WEFT_ASSIGN_OR_RETURN(std::vector<double> some, ReadValues(tensor, *stream));
    values.push_back(std::move(some));
  }
  return values;
}

std::vector<std::vector<double>> RunPlain(const OpCase& op) {
  std::vector<std::vector<float>> operands;
  for (const Array& array : op.operands) {
    operands.emplace_back(array.values.begin(), array.values.end());
  }
  op.plain(operands);
  std::vector<std::vector<double>> values;
  for (const std::vector<float>& operand : operands) {
    values.emplace_back(operand.begin(), operand.end());
  }
  return values;
}

std::unique_ptr<Device> ReferenceForTest() {
  RegisterReferenceKernels();
  return NewReferenceDevice();
}

bool HasTestInstructionSet() {
  return AskedInstructionSet().value_or(InstructionSet::kSse2) <= BestInstructionSet();
}

std::unique_ptr<Device> CpuForTest(int threads) {
  RegisterCpuKernels();
  absl::StatusOr<std::unique_ptr<Device>> device =
      NewCpuDevice({.threads = threads, .isa = AskedInstructionSet()});
  WEFT_CHECK_MSG(device.ok(), device.status().ToString());
  return std::move(device).value();
}

}  // namespace weft::kernels
