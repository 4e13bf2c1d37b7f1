#include "proto/spec/data_paths.h"

namespace weft::spec {
namespace {

using Change = absl::FunctionRef<std::string(const std::string&)>;

template <typename Files>
void ChangeFiles(Files& files, Change change) {
  for (std::string& path : *files.mutable_paths()) path = change(path);
  for (std::string& path : *files.mutable_validation_paths()) path = change(path);
}

template <typename Source>
void ChangeFolder(Source& source, Change change) {
  source.set_folder(change(source.folder()));
}

}  // namespace

void ChangePaths(v1::DataSpec& data, Change change) {
  switch (data.source_case()) {
    case v1::DataSpec::kText:
      return ChangeFiles(*data.mutable_text(), change);
    case v1::DataSpec::kTokens:
      return ChangeFiles(*data.mutable_tokens(), change);
    case v1::DataSpec::kListops:
      if (data.listops().has_folder()) ChangeFolder(*data.mutable_listops(), change);
      return;
    case v1::DataSpec::kImdb:
      return ChangeFolder(*data.mutable_imdb(), change);
    case v1::DataSpec::kAan:
      return ChangeFolder(*data.mutable_aan(), change);
    case v1::DataSpec::kCifar10:
      return ChangeFolder(*data.mutable_cifar10(), change);
    case v1::DataSpec::kPathfinder:
      return ChangeFolder(*data.mutable_pathfinder(), change);
    case v1::DataSpec::kPennTreebank:
      return ChangeFolder(*data.mutable_penn_treebank(), change);
    case v1::DataSpec::kEnwik8:
      return data.mutable_enwik8()->set_path(change(data.enwik8().path()));
    case v1::DataSpec::kWikitext103:
      return ChangeFolder(*data.mutable_wikitext103(), change);
    case v1::DataSpec::kPg19:
      return ChangeFolder(*data.mutable_pg19(), change);
    case v1::DataSpec::kCopying:
    case v1::DataSpec::kSelectiveCopying:
    case v1::DataSpec::kInductionHeads:
    case v1::DataSpec::kRecall:
    case v1::DataSpec::kRepeatedTokens:
    case v1::DataSpec::SOURCE_NOT_SET:
      return;
  }
}

}  // namespace weft::spec
