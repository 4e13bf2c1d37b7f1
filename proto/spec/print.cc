#include "proto/spec/print.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/spec/names.h"

namespace weft::spec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void EmitMessage(const Message& message, YAML::Emitter& out);

// The shortest decimal that reads back as the same double.
std::string Shortest(double value) {
  char text[32];
  for (int digits = 6; digits <= 17; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  return text;
}

void EmitChild(const Message& child, YAML::Emitter& out) {
  if (const auto* duration = dynamic_cast<const google::protobuf::Duration*>(&child)) {
    out << absl::FormatDuration(absl::Seconds(duration->seconds()) +
                                absl::Nanoseconds(duration->nanos()));
    return;
  }
  EmitMessage(child, out);
}

// A text that YAML would read as something else is quoted.
void EmitText(const std::string& text, YAML::Emitter& out) {
  double number = 0;
  char* end = nullptr;
  number = std::strtod(text.c_str(), &end);
  static_cast<void>(number);
  const bool ambiguous = !text.empty() && *end == '\0';
  if (ambiguous || text == "true" || text == "false" || text == "null" || text == "~") {
    out << YAML::DoubleQuoted;
  }
  out << text;
}

// Value `index` of a repeated field, or the value of a plain one (index < 0).
void EmitValue(const Message& message, const FieldDescriptor& field, int index,
               YAML::Emitter& out) {
  const auto& r = *message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return EmitChild(
          one ? r.GetMessage(message, &field) : r.GetRepeatedMessage(message, &field, index), out);
    case FieldDescriptor::CPPTYPE_STRING:
      return EmitText(
          one ? r.GetString(message, &field) : r.GetRepeatedString(message, &field, index), out);
    case FieldDescriptor::CPPTYPE_ENUM:
      out << EnumName(*r.GetEnum(message, &field));
      return;
    case FieldDescriptor::CPPTYPE_BOOL:
      out << r.GetBool(message, &field);
      return;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      out << Shortest(r.GetDouble(message, &field));
      return;
    case FieldDescriptor::CPPTYPE_INT32:
      out << (one ? r.GetInt32(message, &field) : r.GetRepeatedInt32(message, &field, index));
      return;
    case FieldDescriptor::CPPTYPE_INT64:
      out << r.GetInt64(message, &field);
      return;
    case FieldDescriptor::CPPTYPE_UINT64:
      out << r.GetUInt64(message, &field);
      return;
    default:
      out << "";
  }
}

void EmitMessage(const Message& message, YAML::Emitter& out) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  out << YAML::BeginMap;
  for (const FieldDescriptor* field : fields) {
    out << YAML::Key << field->name() << YAML::Value;
    if (!field->is_repeated()) {
      EmitValue(message, *field, -1, out);
      continue;
    }
    const bool numbers = field->cpp_type() == FieldDescriptor::CPPTYPE_INT32;
    if (numbers) out << YAML::Flow;
    out << YAML::BeginSeq;
    for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
      EmitValue(message, *field, i, out);
    }
    out << YAML::EndSeq;
  }
  out << YAML::EndMap;
}

}  // namespace

std::string SpecToYaml(const v1::JobSpec& spec) {
  YAML::Emitter out;
  EmitMessage(spec, out);
  return absl::StrCat(out.c_str(), "\n");
}

}  // namespace weft::spec
