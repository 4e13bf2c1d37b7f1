#include "proto/spec/parse.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "common/base/utf8.h"
#include "proto/spec/names.h"

namespace weft::spec {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// The number of single-character edits between two short words.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

// `nearest`: the field that may be meant, or nothing.
std::string UnknownKey(const Descriptor& type, const std::string& key, std::string& nearest) {
  std::vector<std::string> names;
  size_t best = key.size() / 2 + 1;
  for (int i = 0; i < type.field_count(); ++i) {
    names.push_back(type.field(i)->name());
    const size_t distance = EditDistance(key, names.back());
    if (distance < best) {
      best = distance;
      nearest = names.back();
    }
  }
  return absl::StrCat("unknown field",
                      nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"),
                      " (allowed: ", absl::StrJoin(names, ", "), ")");
}

absl::string_view ParentOf(absl::string_view field) {
  const size_t dot = field.rfind('.');
  return dot == absl::string_view::npos ? "" : field.substr(0, dot);
}

// Whether `field` is `other`, or a part of it.
bool IsWithin(absl::string_view field, absl::string_view other) {
  return absl::ConsumePrefix(&field, other) &&
         (field.empty() || field[0] == '.' || field[0] == '[');
}

class Parser {
 public:
  explicit Parser(std::vector<Violation>& violations) : violations_(violations) {}

  void ParseMessage(const YAML::Node& node, const std::string& path, Message& message) {
    if (!node.IsMap()) {
      Report(node, path, "must be a mapping of fields");
      return;
    }
    const Descriptor& type = *message.GetDescriptor();
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      const std::string field_path = path.empty() ? key : absl::StrCat(path, ".", key);
      const FieldDescriptor* field = type.FindFieldByName(key);
      if (field == nullptr) {
        std::string nearest;
        Report(entry.first, field_path, UnknownKey(type, key, nearest));
        violations_.back().unknown = true;
        violations_.back().meant =
            nearest.empty() || path.empty() ? nearest : absl::StrCat(path, ".", nearest);
      } else if (!seen.insert(key).second) {
        Report(entry.first, field_path, "given twice");
      } else if (const FieldDescriptor* other = OtherOfOneof(message, *field); other != nullptr) {
        Report(entry.first, field_path,
               absl::StrCat("only one of ", other->name(), " and ", key, " may be given"));
      } else {
        ParseField(entry.second, field_path, *field, message);
      }
    }
  }

 private:
  static std::string Where(const YAML::Node& node) {
    const YAML::Mark mark = node.Mark();
    return mark.is_null() ? "" : absl::StrCat(" (line ", mark.line + 1, ")");
  }

  void Report(const YAML::Node& node, const std::string& path, absl::string_view what) {
    violations_.push_back({path, absl::StrCat(what, Where(node))});
  }

  static const FieldDescriptor* OtherOfOneof(const Message& message, const FieldDescriptor& field) {
    const auto* oneof = field.real_containing_oneof();
    return oneof == nullptr ? nullptr
                            : message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
  }

  void ParseField(const YAML::Node& node, const std::string& path, const FieldDescriptor& field,
                  Message& message) {
    if (!field.is_repeated()) {
      ParseValue(node, path, field, message);
      return;
    }
    if (!node.IsSequence()) {
      Report(node, path, "must be a list");
      return;
    }
    for (size_t i = 0; i < node.size(); ++i) {
      ParseValue(node[i], absl::StrCat(path, "[", i, "]"), field, message);
    }
  }

  void ParseValue(const YAML::Node& node, const std::string& path, const FieldDescriptor& field,
                  Message& message) {
    const auto& reflection = *message.GetReflection();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message& child = field.is_repeated() ? *reflection.AddMessage(&message, &field)
                                           : *reflection.MutableMessage(&message, &field);
      if (auto* duration = dynamic_cast<google::protobuf::Duration*>(&child)) {
        ParseDuration(node, path, *duration);
      } else {
        ParseMessage(node, path, child);
      }
      return;
    }
    if (!node.IsScalar()) {
      Report(node, path, absl::StrCat("must be ", Kind(field), node.IsNull() ? ", is empty" : ""));
      return;
    }
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING && !IsUtf8(node.Scalar())) {
      Report(node, path, "must be UTF-8");
      return;
    }
    if (SetScalar(node, field, message)) return;
    const std::string beyond = SetNearest(node, field, message);
    Report(node, path, absl::StrCat("must be ", Kind(field), beyond, ", is '", node.Scalar(), "'"));
    if (!beyond.empty() && !field.is_repeated()) {
      violations_.back().given = absl::StrCat(node.Scalar(), Where(node));
    }
  }

  // Of a whole number beyond what the field can hold: what it can, as " of at most 2147483647".
  static std::string SetNearest(const YAML::Node& node, const FieldDescriptor& field,
                                Message& message) {
    const std::string& text = node.Scalar();
    const bool negative = absl::StartsWith(text, "-");
    const bool digits = text.size() > (negative ? 1 : 0) &&
                        text.find_first_not_of("0123456789", negative) == std::string::npos;
    if (!digits || node.Tag() == "!") return "";
    const auto& reflection = *message.GetReflection();
    const auto nearest = [&](auto low, auto high, auto set) {
      if (!field.is_repeated()) (reflection.*set)(&message, &field, negative ? low : high);
      return negative ? absl::StrCat(" of at least ", low) : absl::StrCat(" of at most ", high);
    };
    using Int32 = std::numeric_limits<int32_t>;
    using Int64 = std::numeric_limits<int64_t>;
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return nearest(Int32::min(), Int32::max(), &Reflection::SetInt32);
      case FieldDescriptor::CPPTYPE_INT64:
        return nearest(Int64::min(), Int64::max(), &Reflection::SetInt64);
      default:
        return "";
    }
  }

  void ParseDuration(const YAML::Node& node, const std::string& path,
                     google::protobuf::Duration& duration) {
    absl::Duration value;
    if (!node.IsScalar() || !absl::ParseDuration(node.Scalar(), &value) ||
        value == absl::InfiniteDuration() || value < absl::ZeroDuration()) {
      Report(node, path, "must be a duration such as 500ms, 10s or 5m");
      return;
    }
    duration.set_seconds(absl::ToInt64Seconds(value));
    duration.set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(value - absl::Seconds(duration.seconds()))));
  }

  // What a scalar field takes, for the sentence "must be ...".
  static std::string Kind(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        return "true or false";
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return "a number";
      case FieldDescriptor::CPPTYPE_STRING:
        return "a text";
      case FieldDescriptor::CPPTYPE_ENUM:
        return absl::StrCat("one of ", absl::StrJoin(EnumNames(*field.enum_type()), ", "));
      case FieldDescriptor::CPPTYPE_UINT64:
        return "a whole number from 0 to 18446744073709551615";
      default:
        return "a whole number";
    }
  }

  static bool SetScalar(const YAML::Node& node, const FieldDescriptor& field, Message& message) {
    const auto& reflection = *message.GetReflection();
    const std::string& text = node.Scalar();
    const bool repeated = field.is_repeated();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      repeated ? reflection.AddString(&message, &field, text)
               : reflection.SetString(&message, &field, text);
      return true;
    }
    // A quoted scalar ("12") is a text, not a number.
    if (node.Tag() == "!" && field.cpp_type() != FieldDescriptor::CPPTYPE_ENUM) return false;
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL: {
        if (text != "true" && text != "false") return false;
        reflection.SetBool(&message, &field, text == "true");
        return true;
      }
      case FieldDescriptor::CPPTYPE_INT32: {
        int32_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return false;
        repeated ? reflection.AddInt32(&message, &field, value)
                 : reflection.SetInt32(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        int64_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return false;
        reflection.SetInt64(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return false;
        reflection.SetUInt64(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double value = 0;
        if (!absl::SimpleAtod(text, &value)) return false;
        reflection.SetDouble(&message, &field, value);
        return true;
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto* value = EnumValueOf(*field.enum_type(), text);
        if (value == nullptr) return false;
        reflection.SetEnum(&message, &field, value);
        return true;
      }
      default:
        return false;
    }
  }

  std::vector<Violation>& violations_;
};

}  // namespace

std::vector<Violation> ParseSpec(absl::string_view text, v1::JobSpec& spec) {
  std::vector<Violation> violations;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() != 1 || documents[0].IsNull()) {
      return {{"", documents.size() > 1 ? "must hold one document, holds several"
                                        : "is empty; it must hold one job spec"}};
    }
    Parser(violations).ParseMessage(documents[0], "", spec);
  } catch (const YAML::Exception& error) {
    violations.push_back({"", absl::StrCat("is not YAML: ", error.what())});
  }
  return violations;
}

void AddRules(std::vector<Violation> rules, std::vector<Violation>& violations) {
  const size_t parsed = violations.size();
  for (Violation& rule : rules) {
    const auto end = violations.begin() + static_cast<std::ptrdiff_t>(parsed);
    const auto known = std::find_if(violations.begin(), end, [&rule](const Violation& v) {
      return v.field.empty() || IsWithin(rule.field, v.field) ||
             (!v.meant.empty() && IsWithin(rule.field, v.meant)) ||
             (v.unknown && rule.field == ParentOf(v.field));
    });
    if (known == end) {
      violations.push_back(std::move(rule));
      continue;
    }
    const size_t is = rule.description.rfind(", is ");
    if (!known->given.empty() && rule.field == known->field && is != std::string::npos) {
      known->description = absl::StrCat(rule.description.substr(0, is), ", is ", known->given);
    }
  }
}

}  // namespace weft::spec
