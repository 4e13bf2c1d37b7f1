// How enum values are written in a spec: lower case, without the prefix that protobuf's style asks
// for.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft::spec {

// DEVICE_KIND_CPU -> "cpu".
std::string EnumName(const google::protobuf::EnumValueDescriptor& value);
// Of all values but the unspecified one, in the order of the proto.
std::vector<std::string> EnumNames(const google::protobuf::EnumDescriptor& type);
// Null when there is no such value.
const google::protobuf::EnumValueDescriptor* EnumValueOf(
    const google::protobuf::EnumDescriptor& type, absl::string_view name);

}  // namespace weft::spec
