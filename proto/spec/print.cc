#include "proto/spec/print.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/spec/names.h"

namespace weft::spec {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Both forms are written from this: maps, lists, texts, numbers, true and false.
using Tree = nlohmann::ordered_json;

Tree TreeOf(const Message& message);

// The shortest decimal that reads back as the same double.
std::string Shortest(double value) {
  char text[32];
  for (int digits = 6; digits <= 17; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  return text;
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

void Emit(const Tree& tree, YAML::Emitter& out) {
  if (tree.is_object()) {
    out << YAML::BeginMap;
    for (const auto& [key, value] : tree.items()) {
      out << YAML::Key << key << YAML::Value;
      Emit(value, out);
    }
    out << YAML::EndMap;
  } else if (tree.is_array()) {
    if (!tree.empty() && tree.front().is_number()) out << YAML::Flow;
    out << YAML::BeginSeq;
    for (const Tree& item : tree) Emit(item, out);
    out << YAML::EndSeq;
  } else if (tree.is_string()) {
    EmitText(tree.get<std::string>(), out);
  } else if (tree.is_boolean()) {
    out << tree.get<bool>();
  } else if (tree.is_number_float()) {
    out << Shortest(tree.get<double>());
  } else if (tree.is_number_unsigned()) {
    out << tree.get<uint64_t>();
  } else {
    out << tree.get<int64_t>();
  }
}

Tree TreeOfChild(const Message& child) {
  if (const auto* duration = dynamic_cast<const google::protobuf::Duration*>(&child)) {
    return absl::FormatDuration(absl::Seconds(duration->seconds()) +
                                absl::Nanoseconds(duration->nanos()));
  }
  return TreeOf(child);
}

// Value `index` of a repeated field, or the value of a plain one (index < 0).
Tree TreeOfValue(const Message& message, const FieldDescriptor& field, int index) {
  const auto& r = *message.GetReflection();
  const bool one = index < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return TreeOfChild(one ? r.GetMessage(message, &field)
                             : r.GetRepeatedMessage(message, &field, index));
    case FieldDescriptor::CPPTYPE_STRING:
      return one ? r.GetString(message, &field) : r.GetRepeatedString(message, &field, index);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumName(*r.GetEnum(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_INT32:
      return one ? r.GetInt32(message, &field) : r.GetRepeatedInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_INT64:
      return r.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.GetUInt64(message, &field);
    default:
      return "";
  }
}

Tree TreeOf(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  Tree tree = Tree::object();
  for (const FieldDescriptor* field : fields) {
    Tree& value = tree[field->name()];
    if (!field->is_repeated()) {
      value = TreeOfValue(message, *field, -1);
      continue;
    }
    value = Tree::array();
    for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
      value.push_back(TreeOfValue(message, *field, i));
    }
  }
  return tree;
}

}  // namespace

std::string SpecToYaml(const v1::JobSpec& spec) {
  YAML::Emitter out;
  Emit(TreeOf(spec), out);
  return absl::StrCat(out.c_str(), "\n");
}

std::string SpecToJson(const v1::JobSpec& spec) {
  // What is no UTF-8 would be an exception.
  return TreeOf(spec).dump(1, ' ', false, Tree::error_handler_t::replace) + "\n";
}

}  // namespace weft::spec
