// The forms in which a command prints resources: -o table, json, yaml or name.
#pragma once

#include <google/protobuf/message.h>

#include <map>
#include <ostream>
#include <string>
#include <vector>

namespace weft::client {

enum class OutputFormat { kTable, kJson, kYaml, kName };

const std::map<std::string, OutputFormat>& OutputFormats();

// JSON as protobuf defines it, with the field names of the proto, indented.
std::string ToJson(const google::protobuf::Message& message);
std::string ToYaml(const google::protobuf::Message& message);

// One resource, or a list of them, in json or yaml; a list is an array (json) or a sequence (yaml).
void PrintMessages(const std::vector<const google::protobuf::Message*>& messages, bool as_list,
                   OutputFormat format, std::ostream& out);

}  // namespace weft::client
