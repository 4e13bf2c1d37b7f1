#include "client/output.h"

#include <google/protobuf/util/json_util.h>
#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "proto/spec/print.h"
#include "weft/v1/job_spec.pb.h"

namespace weft::client {
namespace {

// Whether YAML would read a bare scalar as something else than this text. Whole numbers are left
// alone: protobuf's JSON quotes every int64, and people do not.
bool NeedsQuotes(const std::string& text) {
  static const auto& words =
      *new std::set<std::string>{"", "~", "null", "true", "false", "yes", "no", "on", "off"};
  double number = 0;
  int64_t whole = 0;
  return words.count(absl::AsciiStrToLower(text)) > 0 ||
         (absl::SimpleAtod(text, &number) && !absl::SimpleAtoi(text, &whole));
}

// JSON is YAML in flow style; block style is what people read.
void EmitBlock(const YAML::Node& node, YAML::Emitter& out) {
  if (node.IsMap()) {
    out << YAML::BeginMap;
    for (const auto& entry : node) {
      out << YAML::Key << entry.first.Scalar() << YAML::Value;
      EmitBlock(entry.second, out);
    }
    out << YAML::EndMap;
  } else if (node.IsSequence()) {
    out << YAML::BeginSeq;
    for (const auto& entry : node) EmitBlock(entry, out);
    out << YAML::EndSeq;
  } else {
    const bool quoted = node.Tag() == "!";
    if (quoted && NeedsQuotes(node.Scalar())) out << YAML::DoubleQuoted;
    out << node.Scalar();
  }
}

nlohmann::json NodeToJson(const YAML::Node& node) {
  if (node.IsMap()) {
    nlohmann::json map = nlohmann::json::object();
    for (const auto& entry : node) map[entry.first.Scalar()] = NodeToJson(entry.second);
    return map;
  }
  if (node.IsSequence()) {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& entry : node) list.push_back(NodeToJson(entry));
    return list;
  }
  return node.Scalar();
}

using Json = nlohmann::ordered_json;

// Specs as people write them, and as we read them; all else as protobuf does.
void RewriteSpecs(const google::protobuf::Message& message, Json& json) {
  using google::protobuf::FieldDescriptor;
  if (const auto* spec = dynamic_cast<const v1::JobSpec*>(&message)) {
    json = Json::parse(spec::SpecToJson(*spec));
    return;
  }
  const auto& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
    Json& value = json[field->name()];
    if (!field->is_repeated()) {
      RewriteSpecs(reflection.GetMessage(message, field), value);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      RewriteSpecs(reflection.GetRepeatedMessage(message, field, i), value[static_cast<size_t>(i)]);
    }
  }
}

Json JsonOf(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  WEFT_CHECK(google::protobuf::util::MessageToJsonString(message, &text, options).ok());
  Json json = Json::parse(text);
  RewriteSpecs(message, json);
  return json;
}

std::string JsonToYaml(const std::string& json) {
  YAML::Emitter out;
  EmitBlock(YAML::Load(json), out);
  return absl::StrCat(out.c_str(), "\n");
}

}  // namespace

const std::map<std::string, OutputFormat>& OutputFormats() {
  static const auto& formats = *new std::map<std::string, OutputFormat>{
      {"table", OutputFormat::kTable}, {"wide", OutputFormat::kWide}, {"json", OutputFormat::kJson},
      {"yaml", OutputFormat::kYaml},   {"name", OutputFormat::kName},
  };
  return formats;
}

std::string ToJson(const google::protobuf::Message& message) {
  return absl::StrCat(JsonOf(message).dump(1), "\n");
}

std::string ToJsonLine(const google::protobuf::Message& message) { return JsonOf(message).dump(); }

std::string YamlToJson(const std::string& yaml) {
  return absl::StrCat(NodeToJson(YAML::Load(yaml)).dump(1), "\n");
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

void PrintRecords(const std::vector<TextRecord>& records, bool as_list, OutputFormat format,
                  std::ostream& out) {
  Json all = Json::array();
  for (const TextRecord& record : records) {
    Json& fields = all.emplace_back(Json::object());
    for (const auto& [name, text] : record) fields[name] = text;
  }
  const Json& printed = as_list ? all : all.front();
  const std::string json = printed.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  out << (format == OutputFormat::kYaml ? JsonToYaml(json) : json);
}

void PrintVerb(const google::protobuf::Message& resource, const std::string& name,
               const std::string& done, OutputFormat format, std::ostream& out) {
  if (IsForPrograms(format)) return PrintMessages({&resource}, /*as_list=*/false, format, out);
  out << name;
  if (format != OutputFormat::kName) out << ' ' << done;
  out << '\n';
}

}  // namespace weft::client
