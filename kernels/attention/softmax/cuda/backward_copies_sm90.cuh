// What the loading warpgroup of the softmax gradient on Hopper does (backward_sm90.cu): a thread
// loads, two keep the turns of dQ, one stores the gradients of keys.
#pragma once

#include "kernels/attention/softmax/cuda/backward_pieces_sm90.cuh"

namespace weft::kernels::sm90::softmax_backward {

template <int kWidth>
__device__ void LoadKeys(const Params& params, const Piece<kWidth>& piece, uint8_t* place,
                         uint64_t* full) {
  using L = Layout<kWidth>;
  hopper::ArriveExpecting(full, 2 * L::kKeyBytes);
#pragma unroll
  for (int c = 0; c < kWidth / 64; ++c) {
    hopper::LoadBox(params.maps.k, place + L::kKeys + c * TileBytes(kBlockKeys), full, 64 * c,
                    piece.kv_head, piece.Key(), piece.batch);
    hopper::LoadBox(params.maps.v, place + L::kValues + c * TileBytes(kBlockKeys), full, 64 * c,
                    piece.kv_head, piece.Key(), piece.batch);
  }
}

template <int kWidth>
__device__ void LoadQueries(const Params& params, const Piece<kWidth>& piece, uint8_t* shared,
                            Barriers* barriers, Progress& progress) {
  using L = Layout<kWidth>;
  piece.ForEachStep(params, [&](int head, int tile, int number) {
    const hopper::RingPlace<kStages>& at = progress.ring;
    hopper::AwaitPhase(&barriers->empty[at.stage], at.parity ^ 1);
    uint64_t* const full = &barriers->full[at.stage];
    uint64_t* const rest = &barriers->rest[at.stage];
    const bool first = piece.IsFirst(tile);
    hopper::ArriveExpecting(full, L::kQueryBytes);
    hopper::ArriveExpecting(rest, L::kQueryBytes + (first ? L::kQueryBytes : 2 * L::kQueries * 4));
#pragma unroll
    for (int c = 0; c < kWidth / 64; ++c) {
      const int to = at.stage * L::kQueryBytes + c * TileBytes(L::kQueries);
      hopper::LoadBox(params.maps.q, shared + L::kQuery + to, full, 64 * c, head,
                      tile * L::kQueries, piece.batch);
      hopper::LoadBox(params.maps.d_o, shared + L::kOutput + to, rest, 64 * c, head,
                      tile * L::kQueries, piece.batch);
    }
    if (first) {
#pragma unroll
      for (int c = 0; c < kWidth / 64; ++c) {
        hopper::PrefetchBox(params.maps.o, 64 * c, head, tile * L::kQueries, piece.batch);
      }
      // Both have read the slopes of two steps before when those of the last are there.
      const int last = progress.steps - 1;
      if (last >= 0) hopper::AwaitPhase(&barriers->slopes[last & 1], last >> 1 & 1);
      const int to = L::kSlopes + (progress.steps & 1) * L::kSlopeBytes;
#pragma unroll
      for (int c = 0; c < kWidth / 64; ++c) {
        hopper::LoadBox(params.maps.o, shared + to + c * TileBytes(L::kQueries), rest, 64 * c, head,
                        tile * L::kQueries, piece.batch);
      }
    } else {
      AwaitTurn(params.scratch.known + number, 1);
      hopper::FenceForEnginesEverywhere();
      const int64_t row = int64_t{number} * L::kQueries;
      const int to = at.stage * L::kQueries * 4;
      hopper::LoadBytes(shared + L::kShifts + to, params.scratch.shifts + row, L::kQueries * 4,
                        rest);
      hopper::LoadBytes(shared + L::kMeans + to, params.scratch.means + row, L::kQueries * 4, rest);
    }
    progress.Advance();
  });
}

template <int kWidth>
__device__ void LoadPieces(const Params& params, uint8_t* shared, Barriers* barriers) {
  using L = Layout<kWidth>;
  KeysPlace<kWidth> place;
  Progress progress;
  for (;;) {
    const Piece<kWidth> piece(params, atomicAdd(params.scratch.ticket, 1));
    uint64_t* const full = &barriers->keys_full[place.stage];
    hopper::AwaitPhase(&barriers->keys_empty[place.stage], place.parity ^ 1);
    *PieceAt<kWidth>(shared, place.stage) = piece;
    if (piece.block < 0) {
      hopper::Arrive(full);
      return;
    }
    LoadKeys(params, piece, shared + place.stage * L::kPlaceBytes, full);
    place.Advance();
    LoadQueries(params, piece, shared, barriers, progress);
  }
}

// d_k and d_v, from the place of their keys, which is free then.
template <int kWidth>
__device__ void StorePieces(const Params& params, uint8_t* shared, Barriers* barriers) {
  using L = Layout<kWidth>;
  ForEachPiece<kWidth>(
      shared, barriers, [&](const Piece<kWidth>& piece, const KeysPlace<kWidth>& place) {
        const uint8_t* const from = shared + place.stage * L::kPlaceBytes;
        hopper::AwaitPhase(&barriers->gradients[place.stage], place.parity);
#pragma unroll
        for (int c = 0; c < kWidth / 64; ++c) {
          hopper::StoreBox(params.maps.d_k, from + L::kKeys + c * TileBytes(kBlockKeys), 64 * c,
                           piece.kv_head, piece.Key(), piece.batch);
          hopper::StoreBox(params.maps.d_v, from + L::kValues + c * TileBytes(kBlockKeys), 64 * c,
                           piece.kv_head, piece.Key(), piece.batch);
        }
        hopper::CommitStores();
        hopper::AwaitStoresRead<0>();
        hopper::Arrive(&barriers->keys_empty[place.stage]);
      });
}

// Adds half a tile of dQ, when it is this block's turn; parity: of the step. number: of the tile
// among all.
template <int kWidth>
__device__ inline void AddInTurn(const Params& params, const Piece<kWidth>& piece, uint8_t* shared,
                                 Barriers* barriers, int half, uint32_t parity, int head, int tile,
                                 int number) {
  uint8_t* const place = shared + Layout<kWidth>::kSums + half * kHalfBytes;
  int32_t* const turn = params.scratch.turns + number * 2 + half;
  float4* const sums = params.scratch.d_q + (int64_t{number} * 2 + half) * kHalf;
  const bool first = piece.IsFirst(tile);
  const bool last = piece.IsLast(tile);
  if (!first) {
    AwaitTurn(turn, piece.BlocksBefore(params.p, tile));
    hopper::FenceForEnginesEverywhere();
  }
  if (last && !first) {
    hopper::ArriveExpecting(&barriers->sums[half], kHalfBytes);
    hopper::LoadBytes(place, sums, kHalfBytes, &barriers->sums[half]);
  } else {
    hopper::Arrive(&barriers->sums[half]);
  }
  hopper::AwaitPhase(&barriers->filled[half], parity);
  if (last) {
    hopper::StoreBox(params.maps.d_q, place, kWidth == 64 ? 0 : 64 * half, head,
                     tile * Layout<kWidth>::kQueries + (kWidth == 64 ? 64 * half : 0), piece.batch);
  } else if (first) {
    hopper::StoreBytes(sums, place, kHalfBytes);
  } else {
    hopper::AddFloats(sums, place, kHalfBytes);
  }
  hopper::CommitStores();
  hopper::AwaitStoresRead<0>();
  hopper::Arrive(&barriers->sent[half]);
  if (last) return;
  hopper::AwaitStores<0>();
  PassTurn(turn);
}

// Adds one half after the other: a thread of the loading warpgroup for each side, so that those who
// compute wait neither for other blocks nor for memory, but for the sums that a last turn takes
// back.
template <int kWidth>
__device__ void AddInTurns(const Params& params, uint8_t* shared, Barriers* barriers, int half) {
  uint32_t parity = 0;
  ForEachPiece<kWidth>(shared, barriers, [&](const Piece<kWidth>& piece, const KeysPlace<kWidth>&) {
    piece.ForEachStep(params, [&](int head, int tile, int number) {
      AddInTurn(params, piece, shared, barriers, half, parity, head, tile, number);
      parity ^= 1;
    });
  });
}

}  // namespace weft::kernels::sm90::softmax_backward
