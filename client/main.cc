// weft: the command line of Weft. Exit codes: common/base/exit_codes.h.

#include <grpc/support/log.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/checked_output.h"
#include "client/commands.h"
#include "client/session.h"

namespace weft::client {
namespace {

constexpr char kFooter[] = R"(
Exit codes: 0 ok, 1 error, 2 wrong usage or spec, 3 not found, 4 denied, 5 conflict, 6 unavailable,
10 job failed, 11 job cancelled, 12 waited too long, 130 interrupted.)";

// gRPC writes about each attempt to connect to standard error; what came of them, we say ourselves.
// GRPC_VERBOSITY brings it back.
void SilenceGrpc() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): before any thread starts
  if (std::getenv("GRPC_VERBOSITY") != nullptr) return;
  gpr_set_log_function([](gpr_log_func_args* /*arguments*/) {});
}

// CLI11's text, with what is allowed where it does not say that.
std::string UsageError(const CLI::App* app, const CLI::Error& error) {
  std::string command = app->get_name();
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    command += " " + app->get_name();
  }
  std::string allowed;
  for (const CLI::App* one : app->get_subcommands([](const CLI::App*) { return true; })) {
    absl::StrAppend(&allowed, allowed.empty() ? "" : ", ", one->get_name());
  }
  const std::vector<std::string> extras = app->remaining();
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) && !allowed.empty() &&
      !extras.empty() && extras.front().front() != '-') {
    return absl::StrCat("weft: ", command, " has no command ", extras.front(), "; it has ", allowed,
                        "\n");
  }
  const std::string what = error.what();
  if (what == CLI::RequiredError::Subcommand(1).what()) {
    return absl::StrCat("weft: ", command, " must be followed by one of ", allowed, "\n");
  }
  return absl::StrCat("weft: ", what, "\n", command, " --help says more\n");
}

int Run(int argc, char** argv) {
  Session session;
  CLI::App app("Train language models with efficient attention on many machines.", "weft");
  app.footer(kFooter);
  app.failure_message(UsageError);
  app.set_version_flag("--version", "weft 0.1.0");
  app.fallthrough();  // global flags may also stand behind the command
  app.add_option("--address", session.flags.address,
                 "host:port of the coordinator, or several, comma separated; default: "
                 "$WEFT_ADDRESS, else the context in use, else the local cluster");
  app.add_option("--context", session.context_flag, "Speak to this cluster of `weft context list`");
  app.add_option(
      "--tls-ca", session.flags.tls.ca,
      "PEM file of the authorities that the coordinator's certificate is from; turns TLS "
      "on; default: the context's, else $WEFT_TLS_CA");
  app.add_option("--tls-cert", session.flags.tls.cert,
                 "PEM file of your certificate, where the coordinator asks for one; default: the "
                 "context's, else $WEFT_TLS_CERT");
  app.add_option("--tls-key", session.flags.tls.key,
                 "PEM file of its key; default: the context's, else $WEFT_TLS_KEY");
  app.add_option("--tls-name", session.flags.tls_name,
                 "Name that the coordinator's certificate must have; default: the context's, else "
                 "$WEFT_TLS_NAME, else the address's host");
  app.add_option_function<std::string>(
         "-o,--output", [&](const std::string& name) { session.output = OutputFormats().at(name); },
         "How results are printed")
      ->check(CLI::IsMember(OutputFormats()).description("").name(""))
      ->type_name("table|wide|json|yaml|name");
  AddSubmit(app, session);
  AddGet(app, session);
  AddWatch(app, session);
  AddLogs(app, session);
  AddExplain(app, session);
  AddCancel(app, session);
  AddSample(app, session);
  AddWorkers(app, session);
  AddQueues(app, session);
  AddData(app, session);
  AddLocal(app, session);
  AddPresets(app, session);
  AddPlot(app, session);
  AddTop(app, session);
  AddContext(app, session);
  AddCompletion(app, session);
  if (argc > 1 && std::string(argv[1]) == "__complete") {
    return CompleteWords(app, session, {argv + 2, argv + argc});
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (app.get_subcommands().empty()) {
    std::cerr << app.help();
    return kExitUsage;
  }
  return session.exit_code;
}

}  // namespace
}  // namespace weft::client

int main(int argc, char** argv) {
  weft::client::SilenceGrpc();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write(), not the end of us
  const weft::client::CheckedOutput output(STDOUT_FILENO);  // but where it is our output
  return weft::client::Run(argc, argv);
}
