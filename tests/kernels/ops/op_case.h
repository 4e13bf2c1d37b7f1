// One call of an op with fixed operands, to be made on any device and judged there.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/device/device.h"

namespace weft::kernels {

// An operand or result on the host: fp64 values, rounded to the compute type where they go.
struct Array {
  DType dtype = DType::kF64;  // kF64 stands for the device's type of its role, kI32 for itself
  Shape shape;
  std::vector<double> values;
  bool fixed_f64 = false;  // kF64 on every device
  bool is_sum = false;     // its role: the device's sum type instead of its compute type
};

// Standard normals (times `deviation`) that are floats; the same for the same `seed`.
Array Normal(uint32_t seed, const Shape& shape, double deviation = 1);
Array Zeros(const Shape& shape);
Array AsSum(Array array);
Array Integers(const Shape& shape, const std::vector<int32_t>& values);

using Operands = absl::Span<Tensor>;

struct OpCase {
  std::string name;             // letters and digits
  std::vector<Array> operands;  // in the order that `call` and `plain` index; results among them
  std::vector<size_t> results;  // the operands that the op writes
  std::function<absl::Status(Stream&, Operands)> call;
  // The same by the straightforward formula in fp32.
  std::function<void(std::vector<std::vector<float>>&)> plain;
};

inline void PrintTo(const OpCase& op, std::ostream* out) { *out << op.name; }

// The operands after the call, in fp64.
absl::StatusOr<std::vector<std::vector<double>>> RunOn(const OpCase& op, Device& device);
// The same by `plain`.
std::vector<std::vector<double>> RunPlain(const OpCase& op);

// Devices of the test: ops are registered. WEFT_TEST_ISA in the environment chooses the instruction
// set of CPU devices (sse2, avx2, avx512); the best one otherwise.
std::unique_ptr<Device> ReferenceForTest();
std::unique_ptr<Device> CpuForTest(int threads);
// Whether this machine has the instruction set that the environment asks for.
bool HasTestInstructionSet();

// Ops around mixers: what models begin with, end with and drop.
void AddModelOpCases(std::vector<OpCase>& cases);
// Every op in several odd shapes.
std::vector<OpCase> AllOpCases();

}  // namespace weft::kernels
