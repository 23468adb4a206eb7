#include "api/prepare.h"

#include <cmath>
#include <utility>

#include "api/answer_stream.h"
#include "api/pictures.h"
#include "base/check.h"
#include "base/log.h"
#include "input/prompt.h"

namespace xcomposer::api {
namespace {

void CheckRequest(const Request& request, const RequestContext& context) {
  Require(!(request.text_path && request.images), ErrorKind::kRequest,
          "pictures and the text path (images: null) exclude each other");
  if (request.token_ids) {
    Require(request.query.empty() && request.history.empty() && !request.meta_instruction,
            ErrorKind::kRequest,
            "token_ids hold the whole prompt: query, history and system text must be absent");
  } else {
    Require(context.tokenizer != nullptr, ErrorKind::kTokenizer,
            "the checkpoint folder has no tokenizer.model; a request must then give token_ids");
  }
  Require(request.infer_mode == InferMode::kBase || context.config.kind == Kind::k25_7b,
          ErrorKind::kRequest, "infer_mode asks for an adapter, but this checkpoint is a ",
          ToString(context.config.kind), "; only 2.5-7b has adapters");
  Require(request.generation.stop.empty() || context.tokenizer != nullptr, ErrorKind::kRequest,
          "stop strings need the checkpoint's tokenizer.model, which is missing");
  if (request.deadline_s) {
    Require(
        std::isfinite(*request.deadline_s) && *request.deadline_s > 0 && *request.deadline_s < 1e9,
        ErrorKind::kRequest, "deadline_s is ", *request.deadline_s,
        "; expected seconds above 0 and below 1e9");
  }
}

PictureArgument PictureArgumentOf(const Request& request) {
  if (request.text_path) return PictureArgument::kNull;
  return request.images ? PictureArgument::kList : PictureArgument::kAbsent;
}

Prompt PromptOf(const Request& request, const RequestContext& context,
                const std::vector<int64_t>& picture_rows) {
  if (request.token_ids) {
    return PromptFromIds(*request.token_ids, picture_rows, context.config.bos_id);
  }
  PromptRequest prompt;
  prompt.query = request.query;
  for (const Turn& turn : request.history) prompt.history.push_back({turn.query, turn.answer});
  prompt.pictures = PictureArgumentOf(request);
  prompt.picture_rows = picture_rows;
  prompt.meta_instruction = request.meta_instruction;
  prompt.use_meta = request.use_meta;
  prompt.specials =
      request.specials == Specials::kLiteral ? SpecialsMode::kLiteral : SpecialsMode::kReference;
  prompt.place_missing_marks_first = request.place_missing_marks_first;
  return BuildPrompt(*context.tokenizer, PromptStyleFor(context.config), prompt);
}

EarlyStop EarlyStopOf(EarlyStopping value) {
  switch (value) {
    case EarlyStopping::kFalse:
      return EarlyStop::kNo;
    case EarlyStopping::kTrue:
      return EarlyStop::kYes;
    case EarlyStopping::kNever:
      return EarlyStop::kNever;
  }
  return EarlyStop::kNo;
}

std::vector<int32_t> StopIds(const RequestContext& context) {
  std::vector<int32_t> ids = {context.config.eos_id};
  if (context.tokenizer) {
    if (const auto end = context.tokenizer->turn_end_id(); end && *end != ids.front()) {
      ids.push_back(*end);
    }
  }
  return ids;
}

// Request over the kind's chat defaults over generation_config.json (the last two are merged
// already).
SearchOptions SearchOf(const GenerationOptions& asked, const RequestContext& context) {
  const GenerationDefaults& kind = context.defaults;
  SearchOptions search;
  search.max_new_tokens = asked.max_new_tokens.value_or(kind.max_new_tokens);
  search.num_beams = asked.num_beams.value_or(kind.num_beams);
  // Beams with sampling are refused; who asks for beams alone means beam search.
  search.do_sample = asked.do_sample.value_or(search.num_beams == 1 && kind.do_sample);
  search.temperature = asked.temperature.value_or(kind.temperature);
  search.top_k = asked.top_k.value_or(kind.top_k);
  search.top_p = asked.top_p.value_or(kind.top_p);
  search.repetition_penalty = asked.repetition_penalty.value_or(kind.repetition_penalty);
  search.length_penalty = asked.length_penalty.value_or(kind.length_penalty);
  search.early_stopping = asked.early_stopping  ? EarlyStopOf(*asked.early_stopping)
                          : kind.early_stopping ? EarlyStop::kYes
                                                : EarlyStop::kNo;
  search.eos_token_id = asked.eos_token_id.value_or(StopIds(context));
  search.seed = asked.seed;
  return search;
}

Adapter AdapterOf(InferMode mode) {
  switch (mode) {
    case InferMode::kBase:
      return Adapter::kBase;
    case InferMode::kWeb:
      return Adapter::kWeb;
    case InferMode::kWrite:
      return Adapter::kWrite;
  }
  return Adapter::kBase;
}

}  // namespace

PreparedRequest Prepare(const Request& request, const RequestContext& context) {
  // The deadline counts from submission: reading the pictures is part of the answer's time.
  const auto submitted = std::chrono::steady_clock::now();
  CheckRequest(request, context);

  PreparedRequest prepared;
  Job& job = prepared.job;
  job.search = SearchOf(request.generation, context);
  Validate(job.search, context.config.vocab_size);

  PreparedPictures pictures = PreparePictures(request, context);
  Prompt prompt = PromptOf(request, context, pictures.rows);
  for (const int64_t unused : prompt.unused_pictures) {
    log::Warn("picture ", unused, " of the request has no place in the prompt and is ignored");
  }

  prepared.prompt_truncated = prompt.truncated_rows;
  job.id = request.id;
  job.ids = std::move(prompt.ids);
  for (const PictureRows& rows : prompt.pictures) {
    job.spans.push_back({rows.first_row, rows.row_count, rows.picture});
  }
  job.pictures = std::move(pictures.pictures);
  // The prompt takes pictures in their order; what has no place in it is not encoded.
  job.pictures.resize(prompt.pictures.size());
  job.penalty_ids = std::move(prompt.penalty_ids);
  // The reference forces the cache on for prompts given as embeddings.
  job.text_path = prompt.text_path && !request.generation.use_cache.value_or(false);
  job.adapter = AdapterOf(request.infer_mode);
  job.wants_progress = request.reports_progress;
  if (request.deadline_s) {
    job.deadline = submitted + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                   std::chrono::duration<double>(*request.deadline_s));
  }
  if (context.tokenizer) {
    job.text = std::make_unique<AnswerStream>(context.tokenizer, request.generation.stop);
  }
  return prepared;
}

}  // namespace xcomposer::api
