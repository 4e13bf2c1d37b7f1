// weft context list|use|set|delete.

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/address.h"
#include "client/commands.h"
#include "client/contexts.h"
#include "client/table.h"
#include "common/base/status_macros.h"
#include "common/rpc/tls_credentials.h"

namespace weft::client {
namespace {

struct ContextFlags {
  std::string name;
  std::string address;
};

// Paths that still lead there when `weft` runs in another folder.
std::string Absolute(const std::string& path) {
  if (path.empty()) return path;
  std::error_code ignored;
  return std::filesystem::absolute(path, ignored).lexically_normal().string();
}

absl::Status List(Session& session, const ContextFlags& /*flags*/) {
  WEFT_ASSIGN_OR_RETURN(const Contexts contexts, ReadContexts(ContextsPath()));
  switch (session.output) {
    case OutputFormat::kName:
      for (const auto& [name, context] : contexts.by_name) std::cout << name << '\n';
      return absl::OkStatus();
    case OutputFormat::kJson:
      std::cout << YamlToJson(ToYaml(contexts));
      return absl::OkStatus();
    case OutputFormat::kYaml:
      std::cout << ToYaml(contexts);
      return absl::OkStatus();
    default:
      break;
  }
  if (contexts.by_name.empty()) {
    std::cerr << "no contexts; weft context set NAME ADDRESS makes one\n";
    return absl::OkStatus();
  }
  Table table({"CURRENT", "NAME", "ADDRESS", "TLS"});
  for (const auto& [name, context] : contexts.by_name) {
    const char* tls = context.tls.empty() ? "no" : context.tls.cert.empty() ? "yes" : "mutual";
    table.Add({name == contexts.current ? "*" : "", name, context.address, tls});
  }
  table.Print(std::cout);
  return absl::OkStatus();
}

absl::Status Use(Session& /*session*/, const ContextFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(Contexts contexts, ReadContexts(ContextsPath()));
  WEFT_RETURN_IF_ERROR(contexts.Find(flags.name).status());
  contexts.current = flags.name;
  WEFT_RETURN_IF_ERROR(WriteContexts(ContextsPath(), contexts));
  std::cout << "context/" << flags.name << " in use\n";
  return absl::OkStatus();
}

// The first context is used from then on: who has one cluster does not choose.
absl::Status Set(Session& session, const ContextFlags& flags) {
  WEFT_RETURN_IF_ERROR(CheckContextName(flags.name));
  Context context = session.flags;
  context.address = flags.address;
  for (std::string* path : {&context.tls.ca, &context.tls.cert, &context.tls.key}) {
    *path = Absolute(*path);
  }
  WEFT_RETURN_IF_ERROR(CheckAddresses(context.address));
  WEFT_RETURN_IF_ERROR(NewChannelCredentials(context.tls).status());
  WEFT_ASSIGN_OR_RETURN(Contexts contexts, ReadContexts(ContextsPath()));
  const bool first = contexts.by_name.empty();
  const bool made = contexts.by_name.insert_or_assign(flags.name, context).second;
  if (first) contexts.current = flags.name;
  WEFT_RETURN_IF_ERROR(WriteContexts(ContextsPath(), contexts));
  std::cout << "context/" << flags.name << (made ? " created" : " updated")
            << (first ? ", in use\n" : "\n");
  return absl::OkStatus();
}

absl::Status Delete(Session& /*session*/, const ContextFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(Contexts contexts, ReadContexts(ContextsPath()));
  WEFT_RETURN_IF_ERROR(contexts.Find(flags.name).status());
  contexts.by_name.erase(flags.name);
  if (contexts.current == flags.name) contexts.current.clear();
  WEFT_RETURN_IF_ERROR(WriteContexts(ContextsPath(), contexts));
  std::cout << "context/" << flags.name << " deleted\n";
  return absl::OkStatus();
}

using Verb = absl::Status (*)(Session&, const ContextFlags&);

CLI::App* AddVerb(CLI::App& parent, Session& session, const char* name, const char* description,
                  const std::shared_ptr<ContextFlags>& flags, Verb verb) {
  CLI::App* command = parent.add_subcommand(name, description);
  if (verb != &List) command->add_option("CONTEXT", flags->name)->required();
  command->callback([=, &session] { session.Fail(verb(session, *flags)); });
  return command;
}

}  // namespace

void AddContext(CLI::App& app, Session& session) {
  CLI::App* context = app.add_subcommand("context", "The clusters that you work with, by name");
  context->require_subcommand(1);
  auto flags = std::make_shared<ContextFlags>();
  AddVerb(*context, session, "list", "List the contexts", flags, &List);
  AddVerb(*context, session, "use", "Speak to this cluster from now on", flags, &Use);
  CLI::App* set = AddVerb(*context, session, "set",
                          "Create or replace a context, with --tls-ca and its like", flags, &Set);
  set->add_option("ADDRESS", flags->address,
                  "host:port of the coordinator; of several replicas, comma separated")
      ->required();
  AddVerb(*context, session, "delete", "Forget a context", flags, &Delete);
}

}  // namespace weft::client
