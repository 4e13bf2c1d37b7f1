#include "client/contexts.h"

#include <yaml-cpp/yaml.h>

#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/address.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"

namespace weft::client {
namespace {

// The texts of a context, by the names that the file has for them.
std::vector<std::pair<const char*, std::string*>> FieldsOf(Context& context) {
  return {{"address", &context.address},
          {"tls_ca", &context.tls.ca},
          {"tls_cert", &context.tls.cert},
          {"tls_key", &context.tls.key},
          {"tls_name", &context.tls_name}};
}

absl::Status Wrong(const std::string& origin, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(origin, ": ", what));
}

absl::StatusOr<Context> ReadContext(const std::string& where, const YAML::Node& node) {
  if (!node.IsMap()) return Wrong(where, "fields are expected, such as 'address: host:port'");
  Context context;
  const auto fields = FieldsOf(context);
  for (const auto& entry : node) {
    const auto name = entry.first.as<std::string>();
    bool known = false;
    for (const auto& [field, target] : fields) {
      if (name != field) continue;
      if (!entry.second.IsScalar()) return Wrong(where, absl::StrCat(name, " must be a text"));
      *target = entry.second.as<std::string>();
      known = true;
    }
    if (!known) {
      return Wrong(where,
                   absl::StrCat("there is no field '", name, "'; allowed: ",
                                absl::StrJoin(fields, ", ", [](auto* out, const auto& field) {
                                  out->append(field.first);
                                })));
    }
  }
  if (context.address.empty()) return Wrong(where, "address: is required");
  return context;
}

absl::StatusOr<Contexts> ReadRoot(const std::string& origin, const YAML::Node& root) {
  Contexts contexts;
  if (root.IsNull()) return contexts;
  if (!root.IsMap()) return Wrong(origin, "'current' and 'contexts' are expected");
  for (const auto& entry : root) {
    const auto name = entry.first.as<std::string>();
    if (name == "current") {
      if (!entry.second.IsScalar()) return Wrong(origin, "current: must be a name");
      contexts.current = entry.second.as<std::string>();
    } else if (name == "contexts") {
      if (!entry.second.IsMap()) return Wrong(origin, "contexts: a map of names is expected");
      for (const auto& context : entry.second) {
        const auto key = context.first.as<std::string>();
        WEFT_ASSIGN_OR_RETURN(
            contexts.by_name[key],
            ReadContext(absl::StrCat(origin, ": contexts.", key), context.second));
      }
    } else {
      return Wrong(origin,
                   absl::StrCat("there is no field '", name, "'; allowed: current, contexts"));
    }
  }
  return contexts;
}

}  // namespace

absl::StatusOr<Context> Contexts::Find(const std::string& name) const {
  const auto found = by_name.find(name);
  if (found != by_name.end()) return found->second;
  const std::string names =
      absl::StrJoin(by_name, ", ", [](auto* out, const auto& pair) { out->append(pair.first); });
  return absl::NotFoundError(absl::StrCat("no context is called '", name, "'; there ",
                                          names.empty()
                                              ? "are none (weft context set NAME ADDRESS makes one)"
                                              : absl::StrCat("are: ", names)));
}

std::filesystem::path ContextsPath() { return ConfigDirectory() / "contexts.yaml"; }

absl::StatusOr<Contexts> ParseContexts(const std::string& origin, const std::string& text) {
  try {  // yaml-cpp speaks in exceptions
    return ReadRoot(origin, YAML::Load(text));
  } catch (const YAML::Exception& error) {
    return Wrong(origin, error.what());
  }
}

absl::StatusOr<Contexts> ReadContexts(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return Contexts();
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return absl::PermissionDeniedError(absl::StrCat("cannot read ", path.string()));
  return ParseContexts(path.string(), text.str());
}

std::string ToYaml(const Contexts& contexts) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  if (!contexts.current.empty()) out << YAML::Key << "current" << YAML::Value << contexts.current;
  out << YAML::Key << "contexts" << YAML::Value << YAML::BeginMap;
  for (const auto& [name, context] : contexts.by_name) {
    Context copy = context;
    out << YAML::Key << name << YAML::Value << YAML::BeginMap;
    for (const auto& [field, target] : FieldsOf(copy)) {
      if (!target->empty()) out << YAML::Key << field << YAML::Value << *target;
    }
    out << YAML::EndMap;
  }
  out << YAML::EndMap << YAML::EndMap;
  return absl::StrCat(out.c_str(), "\n");
}

absl::Status WriteContexts(const std::filesystem::path& path, const Contexts& contexts) {
  WEFT_RETURN_IF_ERROR(RealFileSystem().CreateDirectories(path.parent_path().string()));
  WEFT_RETURN_IF_ERROR(WriteFileDurably(RealFileSystem(), path.string(), ToYaml(contexts)));
  std::error_code ignored;
  std::filesystem::permissions(
      path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, ignored);
  return absl::OkStatus();
}

absl::Status CheckContextName(const std::string& name) {
  bool good = !name.empty() && name.size() <= 64;
  for (const char c : name) {
    good = good && (absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-');
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "'", name, "' is no name of a context; allowed: 1 to 64 letters, digits, '.', '_' and '-'"));
}

}  // namespace weft::client
