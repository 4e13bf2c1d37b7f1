// weft-data: prepares training data on this machine. It stands alone because SentencePiece's
// library and Protocol Buffers cannot live in one process. `weft data` calls it.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include "absl/strings/str_format.h"
#include "common/base/exit_codes.h"
#include "common/base/status_macros.h"
#include "common/file/file_system.h"
#include "common/file/standard_output.h"
#include "worker/prepare/tokenize.h"
#include "worker/prepare/write_listops.h"

namespace weft::worker {
namespace {

ExitCode Fail(const absl::Status& status) {
  if (!status.ok()) {
    const std::string message(status.message());
    std::fprintf(stderr, "weft data: %s\n", message.c_str());
  }
  return ExitCodeOf(status.code());
}

struct TokenizeFlags {
  TokenizeOptions options;
  std::string model;  // empty: bytes
  bool lines = false;
  std::string json_field;
  bool no_end_token = false;
};

absl::Status RunTokenize(TokenizeFlags& flags) {
  std::unique_ptr<Tokenizer> tokenizer = NewByteTokenizer();
  if (!flags.model.empty()) {
    WEFT_ASSIGN_OR_RETURN(tokenizer, OpenSentencePiece(flags.model));
  }
  if (flags.lines) flags.options.documents.kind = DocumentKind::kLine;
  if (!flags.json_field.empty()) {
    flags.options.documents.kind = DocumentKind::kJson;
    flags.options.documents.json_field = flags.json_field;
  }
  flags.options.mark_ends = !flags.no_end_token;
  WEFT_ASSIGN_OR_RETURN(const TokenizeResult result,
                        Tokenize(*tokenizer, flags.options, RealFileSystem()));
  const std::string summary =
      absl::StrFormat("%d texts, %d bytes, %d tokens (%.2f bytes a token) of a vocabulary of %d\n",
                      result.documents, result.bytes, result.tokens,
                      static_cast<double>(result.bytes) / static_cast<double>(result.tokens),
                      tokenizer->vocabulary());
  std::fputs(summary.c_str(), stdout);
  for (const std::string& path : result.paths) std::printf("%s\n", path.c_str());
  return FlushStandardOutput();
}

std::string NotEmpty(const std::string& text) { return text.empty() ? "must not be empty" : ""; }

void AddTokenize(CLI::App& app, TokenizeFlags& flags) {
  CLI::App* command = app.add_subcommand("tokenize", "Turn texts into token files of llm.c");
  command->add_option("TEXT", flags.options.paths, "Files and folders")->required();
  command->add_option("--output", flags.options.prefix, "Files are PREFIX_000000.bin and so on")
      ->required()
      ->type_name("PREFIX");
  command->add_option("--sentencepiece", flags.model, "A SentencePiece model; default: bytes")
      ->check(CLI::Validator(NotEmpty, ""))
      ->type_name("MODEL");
  CLI::Option* lines = command->add_flag("--lines", flags.lines, "Each line is a text of its own");
  command
      ->add_option("--json", flags.json_field,
                   "Each line is a JSON object; its field FIELD is a text")
      ->check(CLI::Validator(NotEmpty, ""))
      ->type_name("FIELD")
      ->excludes(lines);
  command->add_flag("--no-end-token", flags.no_end_token,
                    "Do not put the model's end token (bytes: 0) after each text");
  command->add_option("--shard-tokens", flags.options.shard_tokens, "Tokens of a file")
      ->check(CLI::Range(int64_t{1}, int64_t{2'147'483'647}))
      ->capture_default_str();
  command->add_option("--threads", flags.options.threads)
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

void AddListOps(CLI::App& app, WriteListOpsOptions& options) {
  CLI::App* command =
      app.add_subcommand("listops", "Make the ListOps files of the Long Range Arena");
  command->add_option("--output", options.folder)->required()->type_name("FOLDER");
  command->add_option("--seed", options.seed, "Equal seeds give equal files")
      ->capture_default_str();
  const auto size = [command](const char* name, int64_t& value) {
    command->add_option(name, value)
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
        ->capture_default_str();
  };
  size("--train", options.train);
  size("--validation", options.validation);
  size("--test", options.test);
}

int Main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);  // `weft` ignores it, which a program that it becomes inherits
  CLI::App app("Prepare training data on this machine.", "weft data");
  app.require_subcommand(1);
  TokenizeFlags tokenize;
  tokenize.options.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  AddTokenize(app, tokenize);
  WriteListOpsOptions listops;
  AddListOps(app, listops);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return Fail(app.got_subcommand("listops") ? WriteListOps(listops, RealFileSystem())
                                            : RunTokenize(tokenize));
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) { return weft::worker::Main(argc, argv); }
