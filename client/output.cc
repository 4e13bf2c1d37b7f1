#include "client/output.h"

#include <google/protobuf/util/json_util.h>
#include <yaml-cpp/yaml.h>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"

namespace weft::client {
namespace {

// JSON is YAML in flow style; block style is what people read.
void UseBlockStyle(YAML::Node node) {
  if (node.IsMap() || node.IsSequence()) node.SetStyle(YAML::EmitterStyle::Block);
  if (node.IsMap()) {
    for (auto entry : node) UseBlockStyle(entry.second);
  } else if (node.IsSequence()) {
    for (auto entry : node) UseBlockStyle(entry);
  }
}

std::string JsonToYaml(const std::string& json) {
  const YAML::Node node = YAML::Load(json);
  UseBlockStyle(node);
  YAML::Emitter out;
  out << node;
  return absl::StrCat(out.c_str(), "\n");
}

}  // namespace

const std::map<std::string, OutputFormat>& OutputFormats() {
  static const auto& formats = *new std::map<std::string, OutputFormat>{
      {"table", OutputFormat::kTable},
      {"json", OutputFormat::kJson},
      {"yaml", OutputFormat::kYaml},
      {"name", OutputFormat::kName},
  };
  return formats;
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  WEFT_CHECK(google::protobuf::util::MessageToJsonString(message, &json, options).ok());
  return json;
}

std::string ToYaml(const google::protobuf::Message& message) { return JsonToYaml(ToJson(message)); }

void PrintMessages(const std::vector<const google::protobuf::Message*>& messages, bool as_list,
                   OutputFormat format, std::ostream& out) {
  std::string json;
  if (as_list) {
    std::string items;
    for (const auto* message : messages) {
      absl::StrAppend(&items, items.empty() ? "" : ",\n", ToJson(*message));
    }
    json = absl::StrCat("[", items, "]\n");
  } else {
    json = ToJson(*messages.front());
  }
  out << (format == OutputFormat::kYaml ? JsonToYaml(json) : json);
}

}  // namespace weft::client
