#include "proto/spec/names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"

namespace weft::spec {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;

std::string EnumName(const EnumValueDescriptor& value) {
  // The zero value is PREFIX_UNSPECIFIED by the style guide: it tells the prefix.
  absl::string_view prefix = value.type()->value(0)->name();
  absl::ConsumeSuffix(&prefix, "UNSPECIFIED");
  return absl::AsciiStrToLower(absl::StripPrefix(value.name(), prefix));
}

std::vector<std::string> EnumNames(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 1; i < type.value_count(); ++i) names.push_back(EnumName(*type.value(i)));
  return names;
}

const EnumValueDescriptor* EnumValueOf(const EnumDescriptor& type, absl::string_view name) {
  for (int i = 1; i < type.value_count(); ++i) {
    if (EnumName(*type.value(i)) == name) return type.value(i);
  }
  return nullptr;
}

}  // namespace weft::spec
