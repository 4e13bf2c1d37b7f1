// The clusters that a person works with, by name, in a file of theirs:
//   current: lab
//   contexts:
//     lab: {address: "weft.lab:7733", tls_ca: /home/ada/lab-ca.pem}
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tls/tls_files.h"

namespace weft::client {

struct Context {
  std::string address;   // host:port, or several, comma separated
  TlsFiles tls;          // tls_ca, tls_cert, tls_key; none: not encrypted
  std::string tls_name;  // that the certificate must have, where it is not the address's host

  friend bool operator==(const Context&, const Context&) = default;
};

struct Contexts {
  std::string current;  // empty: none
  std::map<std::string, Context> by_name;

  // kNotFound names those that there are.
  [[nodiscard]] absl::StatusOr<Context> Find(const std::string& name) const;

  friend bool operator==(const Contexts&, const Contexts&) = default;
};

// $XDG_CONFIG_HOME/weft/contexts.yaml, else ~/.config/weft/contexts.yaml.
std::filesystem::path ContextsPath();

// A file that is not there holds no contexts. kInvalidArgument names the file and what is wrong.
absl::StatusOr<Contexts> ReadContexts(const std::filesystem::path& path);
absl::StatusOr<Contexts> ParseContexts(const std::string& origin, const std::string& text);
// As ParseContexts reads it.
std::string ToYaml(const Contexts& contexts);
// Whole or not at all; readable by its owner alone.
absl::Status WriteContexts(const std::filesystem::path& path, const Contexts& contexts);

// Names are words: letters, digits, '.', '_' and '-'.
absl::Status CheckContextName(const std::string& name);

}  // namespace weft::client
