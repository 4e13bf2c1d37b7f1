// The forms in which a command prints resources: -o table, wide, json, yaml or name.
#pragma once

#include <google/protobuf/message.h>

#include <map>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace weft::client {

enum class OutputFormat { kTable, kWide, kJson, kYaml, kName };

const std::map<std::string, OutputFormat>& OutputFormats();
// json and yaml: for programs, and nothing else on standard output.
inline bool IsForPrograms(OutputFormat format) {
  return format == OutputFormat::kJson || format == OutputFormat::kYaml;
}
// These and name: standard output has the result alone; progress goes elsewhere.
inline bool PrintsResultAlone(OutputFormat format) {
  return IsForPrograms(format) || format == OutputFormat::kName;
}

// JSON as protobuf defines it, with the field names of the proto, indented. A job's spec in it is
// one that submit takes (proto/spec/print.h).
std::string ToJson(const google::protobuf::Message& message);
std::string ToYaml(const google::protobuf::Message& message);
// On one line, without a newline.
std::string ToJsonLine(const google::protobuf::Message& message);
// Plain YAML (maps, lists, texts) as JSON.
std::string YamlToJson(const std::string& yaml);

// One resource, or a list of them, in json or yaml; a list is an array (json) or a sequence (yaml).
void PrintMessages(const std::vector<const google::protobuf::Message*>& messages, bool as_list,
                   OutputFormat format, std::ostream& out);

// Texts by their names, one such record or a list, in json or yaml. What is no UTF-8 becomes
// U+FFFD.
using TextRecord = std::vector<std::pair<std::string, std::string>>;
void PrintRecords(const std::vector<TextRecord>& records, bool as_list, OutputFormat format,
                  std::ostream& out);

// What a verb did to a resource: "jobs/demo-1 cancelled", its name alone (-o name), or the resource
// as it is now.
void PrintVerb(const google::protobuf::Message& resource, const std::string& name,
               const std::string& done, OutputFormat format, std::ostream& out);

}  // namespace weft::client
