// Readers of data sets in the form in which they are handed around.
//
// Each opens its files, checks what can be checked without reading terabytes, and gives a sample
// source or token streams. Errors name the file, and the line or record, and what was expected
// there: kNotFound, kPermissionDenied, kInvalidArgument. What is only seen when a sample is read is
// kDataLoss. `sequence` is the length of a sample. All files are kept mapped; they must not change.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/data/sample_source.h"
#include "worker/data/token_windows.h"

namespace weft::worker {

using SampleSourceOr = absl::StatusOr<std::unique_ptr<SampleSource>>;

// ---- Labelled samples: the Long Range Arena (Tay et al. 2021) ----

// ListOps: basic_train.tsv, basic_val.tsv, basic_test.tsv in `folder`, each with the header
// `Source<TAB>Target` and one expression and its value a line. Tokens as in listops.h.
struct ListOpsFiles {
  std::string folder = {};
  int64_t max_tokens = 2000;  // what is longer is cut; 1 to the length of a sample
};
SampleSourceOr OpenListOpsFiles(const ListOpsFiles& files, int64_t sequence, HeldOut held_out);

// Text: {train,test}/{pos,neg}/*.txt of the IMDb reviews (Maas et al. 2011), as bytes with markup
// and all. Label 1 is positive. Validation and test are both the folder `test`, as in the
// benchmark.
struct ImdbFiles {
  std::string folder = {};
  int64_t max_tokens = 1000;
};
SampleSourceOr OpenImdb(const ImdbFiles& files, int64_t sequence);

// Retrieval: new_aan_pairs.{train,eval,test}.tsv of the ACL anthology network (Radev et al. 2013):
// five fields a line (label, two ids, two texts) between tabs, without header and without quoting:
// a quotation mark is a character like any other. Samples are pairs of texts as bytes; label 1 says
// that one cites the other. Texts are cut to 10,000 bytes first, as in the benchmark.
struct AanFiles {
  std::string folder = {};
  int64_t max_tokens = 4000;
};
SampleSourceOr OpenAan(const AanFiles& files, int64_t sequence, HeldOut held_out);

// How a colour becomes a grey value. All are the identity on grey.
enum class GreyConversion : uint8_t {
  kTensorFlow,  // float: (0.2989 R + 0.5870 G + 0.1140 B) / 255 * 255.5, truncated
  kPillow,      // integer: (19595 R + 38470 G + 7471 B + 32768) / 65536
};

// Image: CIFAR-10 (Krizhevsky 2009) in its binary version, data_batch_1.bin to data_batch_5.bin and
// test_batch.bin in `folder`, records of a label and 1024 red, green and blue bytes each. Tokens
// are grey values, row by row. The last tenth of the five batches is held out for validation.
struct Cifar10Files {
  std::string folder = {};
  GreyConversion grey = GreyConversion::kTensorFlow;
  bool mask_zero_pixels = false;  // black pixels are padding
};
SampleSourceOr OpenCifar10(const Cifar10Files& files, int64_t sequence, HeldOut held_out);

// Pathfinder (Linsley et al. 2018): one folder of a difficulty, such as curv_contour_length_14,
// with metadata/<n>.npy, which are texts: a line an image with the fields subpath, file name,
// number, label, and more, between single spaces; and <subpath>/<file name>, grey PNG images of
// side x side pixels, where side * side is the length of a sample. Images are in the order of the
// metadata, n ascending; empty image files are left out (the published archive has one). The first
// eight tenths are for training, then one for validation and one for the test.
struct PathfinderFiles {
  std::string folder = {};
  bool mask_zero_pixels = false;
};
SampleSourceOr OpenPathfinder(const PathfinderFiles& files, int64_t sequence, HeldOut held_out);

// ---- Token streams ----

// Penn Treebank (Mikolov's files): ptb.train.txt, ptb.valid.txt, ptb.test.txt in `folder`, as
// bytes.
absl::StatusOr<TokenSplits> OpenPennTreebank(const std::string& folder, HeldOut held_out);

// enwik8 (Mahoney): the file's first train_bytes bytes, the next held_out_bytes for validation and
// as many again for the test.
struct Enwik8File {
  std::string path = {};
  int64_t train_bytes = 90'000'000;
  int64_t held_out_bytes = 5'000'000;
};
absl::StatusOr<TokenSplits> OpenEnwik8(const Enwik8File& file, HeldOut held_out);

// WikiText-103 (Merity et al. 2016): wiki.{train,valid,test}.tokens (or {train,valid,test}.txt) in
// `folder`. Words are what stands between white space; a line ends with <eos>, which is token 0;
// the words of the training file follow in order of falling frequency, equal ones in order of their
// first place. Words that the training file does not have become <unk>. 4 bytes of memory a token.
absl::StatusOr<TokenSplits> OpenWikiText103(const std::string& folder, HeldOut held_out);

// PG-19 (Rae et al. 2020): the texts in {train,validation,test} of `folder`, as bytes.
absl::StatusOr<TokenSplits> OpenPg19(const std::string& folder, HeldOut held_out);

}  // namespace weft::worker
