// weft: the command line of Weft. Exit codes: common/base/exit_codes.h.

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <string>

#include "client/commands.h"
#include "client/session.h"

namespace weft::client {
namespace {

constexpr char kFooter[] = R"(
Exit codes: 0 ok, 1 error, 2 wrong usage or spec, 3 not found, 4 denied, 5 conflict, 6 unavailable,
10 job failed, 11 job cancelled, 12 waited too long, 130 interrupted.)";

int Run(int argc, char** argv) {
  Session session;
  CLI::App app("Train language models with efficient attention on many machines.", "weft");
  app.footer(kFooter);
  app.set_version_flag("--version", "weft 0.1.0");
  app.fallthrough();  // global flags may also stand behind the command
  app.add_option("--address", session.address_flag,
                 "host:port of the coordinator, or several, comma separated; default: "
                 "$WEFT_ADDRESS, else the context in use, else the local cluster");
  app.add_option("--context", session.context_flag, "Speak to this cluster of `weft context list`");
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
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write(), not the end of us
  return weft::client::Run(argc, argv);
}
