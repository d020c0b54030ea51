"""Reason codes: why a row, a file or a part did not get through, as one closed and documented list.

A code is `stage.cause`. Every stage of the project uses these and no others, so that counts by reason close
and mean the same thing in every run. Free text goes into a bounded `detail` beside the code, never into the code.

The class says who can do something about it:

| class | means | then |
|---|---|---|
| permanent | the same input gives the same answer | never tried again; a value in the row |
| transient | the next attempt may succeed | tried again in the run, then alone by a later run |
| operator | a person has to change something | the run ends red and says what |
"""

from enum import StrEnum


class ReasonClass(StrEnum):
    """Who can do something about a failure: nobody, time, or the operator."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    OPERATOR = "operator"


_P, _T, _O = ReasonClass.PERMANENT, ReasonClass.TRANSIENT, ReasonClass.OPERATOR


class Reason(StrEnum):
    """One reason code. The value is the code itself (a plain string in tables); `cls` and `meaning` go with it."""

    cls: ReasonClass
    meaning: str

    def __new__(cls, code: str, reason_class: ReasonClass, meaning: str) -> "Reason":
        member = str.__new__(cls, code)
        member._value_ = code
        member.cls = reason_class
        member.meaning = meaning
        return member

    @property
    def stage(self) -> str:
        """The part before the dot: `img` of `img.corrupt`."""
        return self.value.partition(".")[0]

    # in: the link table
    IN_UNREADABLE = "in.unreadable", _O, "the input file cannot be read at all"
    IN_SCHEMA = "in.schema", _O, "a named column is missing, or its type cannot be used"
    IN_MISSING_URL = "in.missing_url", _P, "the row has no URL"
    IN_DUPLICATE_KEY = "in.duplicate_key", _P, "an earlier row (by file and position) has the same key"
    IN_OVER_LIMIT = "in.over_limit", _P, "beyond the number of rows that the recipe takes"
    # url: the URL itself, before any request
    URL_UNPARSABLE = "url.unparsable", _P, "not a URL by the WHATWG rules"
    URL_BAD_SCHEME = "url.bad_scheme", _P, "neither http nor https"
    URL_USERINFO = "url.userinfo", _P, "carries a user name or a password"
    URL_BAD_HOST = "url.bad_host", _P, "host is empty, or a label is empty or too long"
    URL_TOO_LONG = "url.too_long", _P, "longer than 2,048 characters"
    URL_BAD_PORT = "url.bad_port", _P, "port is zero, above 65535 or no number"
    # net: getting to the host
    NET_BLOCKED_ADDRESS = "net.blocked_address", _P, "the address is not public and not allowed by the recipe"
    NET_BLOCKED_PORT = "net.blocked_port", _P, "the port is not among those allowed"
    NET_DNS_NXDOMAIN = "net.dns_nxdomain", _P, "the name does not exist or has no address"
    NET_DNS_TIMEOUT = "net.dns_timeout", _T, "the resolver did not answer in time"
    NET_DNS_SERVFAIL = "net.dns_servfail", _T, "the resolver failed"
    NET_CONNECT_REFUSED = "net.connect_refused", _T, "nothing listens there, or the network is unreachable"
    NET_CONNECT_TIMEOUT = "net.connect_timeout", _T, "no connection (TCP and TLS) in time"
    NET_RESET = "net.reset", _T, "the connection broke before a whole answer"
    NET_TLS_EXPIRED = "net.tls_expired", _P, "the certificate is expired or not yet valid"
    NET_TLS_NAME = "net.tls_name", _P, "the certificate is for another host"
    NET_TLS_UNTRUSTED = "net.tls_untrusted", _P, "the certificate is self-signed or of an unknown authority"
    NET_TLS_HANDSHAKE = "net.tls_handshake", _P, "no TLS session could be agreed on"
    NET_HOST_CIRCUIT_OPEN = "net.host_circuit_open", _T, "the host failed too often in a row; its other links wait"
    # http: the answer's head
    HTTP_4XX_GONE = "http.4xx_gone", _P, "404, 410 or another 4xx that means: not here"
    HTTP_FORBIDDEN = "http.forbidden", _P, "401, 402, 403, 407 or 451: not for us"
    HTTP_RATE_LIMITED = "http.rate_limited", _T, "429, or its turn would come later than the run waits"
    HTTP_5XX = "http.5xx", _T, "the server failed (5xx), or asked to try again (408, 425)"
    HTTP_REDIRECT_LOOP = "http.redirect_loop", _P, "a redirect leads back to a URL already seen"
    HTTP_REDIRECT_TOO_MANY = "http.redirect_too_many", _P, "more redirects than allowed"
    HTTP_REDIRECT_BLOCKED = "http.redirect_blocked", _P, "a redirect to something that may not be followed"
    HTTP_BAD_RESPONSE = "http.bad_response", _P, "not an HTTP answer that can be used"
    HTTP_HEADERS_TOO_LARGE = "http.headers_too_large", _P, "more or longer header lines than allowed"
    # dl: the answer's body
    DL_TOO_LARGE = "dl.too_large", _P, "the body is, or says that it is, over the cap"
    DL_TOO_SLOW = "dl.too_slow", _T, "fewer bytes a second than the least rate"
    DL_DEADLINE = "dl.deadline", _T, "no first byte, or no last byte, in time"
    DL_LENGTH_MISMATCH = "dl.length_mismatch", _T, "the body is shorter than its Content-Length, or cut"
    DL_EMPTY = "dl.empty", _P, "an answer without a body"
    DL_ENCODING = "dl.encoding", _P, "a content or transfer encoding that was not asked for"
    # policy: the source or the operator says no
    POLICY_ROBOTS = "policy.robots", _P, "robots.txt disallows it"
    POLICY_X_ROBOTS = "policy.x_robots", _P, "X-Robots-Tag opts out"
    POLICY_TDMREP = "policy.tdmrep", _P, "text and data mining is reserved (TDMRep)"
    POLICY_CONTENT_USAGE = "policy.content_usage", _P, "Content-Usage says train-ai=n"
    POLICY_CONTENT_SIGNAL = "policy.content_signal", _P, "Content-Signal says ai-train=no"
    POLICY_AI_TXT = "policy.ai_txt", _P, "ai.txt disallows it"
    POLICY_C2PA = "policy.c2pa", _P, "the file's C2PA manifest says: do not train"
    POLICY_DOMAIN_DENIED = "policy.domain_denied", _P, "on the recipe's list of denied domains or URLs"
    POLICY_LICENCE = "policy.licence", _P, "the licence is not among those wanted"
    POLICY_TAKEDOWN = "policy.takedown", _P, "taken down on request; a tombstone keeps it out"
    POLICY_HASH_MISMATCH = "policy.hash_mismatch", _P, "the bytes are not those that the list promised"
    POLICY_KNOWN_BAD_HASH = "policy.known_bad_hash", _P, "the bytes are on a list of known bad ones"
    # img: decoding a picture
    IMG_NOT_IMAGE = "img.not_image", _P, "the bytes are no picture (HTML, text, ...)"
    IMG_FORMAT_NOT_ALLOWED = "img.format_not_allowed", _P, "a picture in a format that is not on the allow list"
    IMG_BOMB_PIXELS = "img.bomb_pixels", _P, "the header claims more pixels than allowed; not decoded"
    IMG_BOMB_BYTES = "img.bomb_bytes", _P, "a chunk unpacks to more bytes than allowed"
    IMG_BOMB_FRAMES = "img.bomb_frames", _P, "more frames than allowed"
    IMG_TRUNCATED = "img.truncated", _P, "the file ends before the picture does"
    IMG_CORRUPT = "img.corrupt", _P, "the decoder cannot make sense of it"
    IMG_TOO_SMALL = "img.too_small", _P, "smaller than the recipe wants"
    IMG_TOO_LARGE = "img.too_large", _P, "larger than the recipe wants"
    IMG_ASPECT = "img.aspect", _P, "longer side over shorter side above the limit"
    IMG_ANIMATED = "img.animated", _P, "an animation, which the recipe does not want"
    IMG_DECODER_CRASH = "img.decoder_crash", _P, "killed the decoder's process, twice"
    IMG_DECODER_TIMEOUT = "img.decoder_timeout", _P, "the decoder did not end in time, twice"
    IMG_DECODER_MEMORY = "img.decoder_memory", _P, "the decoder needed more memory than allowed"
    IMG_QUARANTINED = "img.quarantined", _P, "an earlier run's decoder died of these bytes; not tried again"
    # av: decoding video and audio
    AV_CONTAINER_NOT_ALLOWED = "av.container_not_allowed", _P, "a container that is not on the allow list"
    AV_CODEC_NOT_ALLOWED = "av.codec_not_allowed", _P, "streams only of codecs that are not on the allow list"
    AV_NO_STREAM = "av.no_stream", _P, "no stream of the wanted kind"
    AV_TOO_SHORT = "av.too_short", _P, "shorter than the recipe wants, or no segment long enough in it"
    AV_TOO_LONG = "av.too_long", _P, "longer than the recipe wants"
    AV_BOMB = "av.bomb", _P, "claims more pixels, samples or streams than allowed"
    AV_TRUNCATED = "av.truncated", _P, "ends before its header says, and the good part is not enough"
    AV_CORRUPT = "av.corrupt", _P, "the decoder cannot make sense of it"
    AV_DECODER_CRASH = "av.decoder_crash", _P, "killed the decoder's process, twice"
    AV_DECODER_TIMEOUT = "av.decoder_timeout", _P, "the decoder did not end in time, twice"
    AV_DECODER_MEMORY = "av.decoder_memory", _P, "the decoder needed more memory than allowed"
    AV_QUARANTINED = "av.quarantined", _P, "an earlier run's decoder died of these bytes; not tried again"
    AV_PROTOCOL_BLOCKED = "av.protocol_blocked", _P, "the container refers to something outside itself"
    # text: captions
    TEXT_EMPTY = "text.empty", _P, "no text, or white space only"
    TEXT_BAD_UNICODE = "text.bad_unicode", _P, "not valid Unicode (a lone surrogate)"
    TEXT_TOO_SHORT = "text.too_short", _P, "shorter than the recipe wants"
    TEXT_TOO_LONG = "text.too_long", _P, "longer than the recipe wants"
    TEXT_CONTROL_ONLY = "text.control_only", _P, "nothing but control characters"
    TEXT_BOILERPLATE = "text.boilerplate", _P, "a file name, a button or another text that describes nothing"
    TEXT_PII = "text.pii", _P, "personal data"
    TEXT_TOXIC = "text.toxic", _P, "toxic text"
    # lang: language
    LANG_UNKNOWN = "lang.unknown", _P, "no language with enough certainty"
    LANG_NOT_WANTED = "lang.not_wanted", _P, "a language that the recipe does not want"
    # dedup: duplicates (the survivor is named beside the code)
    DEDUP_EXACT_BYTES = "dedup.exact_bytes", _P, "the same bytes as the survivor"
    DEDUP_EXACT_URL = "dedup.exact_url", _P, "the same canonical URL as the survivor"
    DEDUP_EXACT_TEXT = "dedup.exact_text", _P, "the same text as the survivor"
    DEDUP_NEAR_IMAGE = "dedup.near_image", _P, "nearly the same picture as the survivor"
    DEDUP_NEAR_TEXT = "dedup.near_text", _P, "nearly the same text as the survivor"
    DEDUP_AGAINST_EVAL = "dedup.against_eval", _P, "a copy of something in an evaluation set"
    # score: models
    SCORE_NONFINITE = "score.nonfinite", _T, "the model gave NaN or infinity (permanent once seen twice)"
    SCORE_BELOW_THRESHOLD = "score.below_threshold", _P, "below the policy's threshold"
    SCORE_MODEL_ERROR = "score.model_error", _T, "the model raised an error"
    SCORE_CANARY_FAILED = "score.canary_failed", _O, "the known example did not get its known score"
    # balance: the draw (probability and seed stand beside the code)
    BALANCE_NO_METADATA_MATCH = "balance.no_metadata_match", _P, "no metadata entry occurs in the text"
    BALANCE_HEAD_DOWNSAMPLED = "balance.head_downsampled", _P, "all its entries are common and the draw went against it"
    BALANCE_QUOTA = "balance.quota", _P, "its group's quota is full"
    BALANCE_DOMAIN_CAP = "balance.domain_cap", _P, "its domain's share of the output is full"
    # safety
    SAFETY_NSFW = "safety.nsfw", _P, "sexual or violent content"
    SAFETY_CSAM_MATCH = "safety.csam_match", _P, "on a lawful list of known abuse material; no bytes kept"
    SAFETY_FACE = "safety.face", _P, "a face, which the recipe does not want"
    # shard: writing
    SHARD_WRITE_FAILED = "shard.write_failed", _T, "a part could not be written"
    SHARD_VERIFY_FAILED = "shard.verify_failed", _O, "a committed part does not have its recorded digest"
    # sys: the machinery
    SYS_WORKER_LOST = "sys.worker_lost", _T, "the worker process went away"
    SYS_OOM = "sys.oom", _T, "out of memory"
    SYS_PREEMPTED = "sys.preempted", _T, "the machine was taken away"
    SYS_BUG = "sys.bug", _O, "an error in this project"


DECODER_DEATHS = frozenset(
    each.value
    for each in (
        Reason.IMG_DECODER_CRASH,
        Reason.IMG_DECODER_TIMEOUT,
        Reason.IMG_DECODER_MEMORY,
        Reason.AV_DECODER_CRASH,
        Reason.AV_DECODER_TIMEOUT,
    )
)
"""What becomes of bytes that decoders' processes died of: such bytes are not tried again."""

_BY_CODE: dict[str, Reason] = {member.value: member for member in Reason}


def reason(code: str) -> Reason:
    """The member for a code as it stands in a table.

    Errors: KeyError that names the valid codes of the same stage (or, for an unknown stage, the valid stages).
    """
    try:
        return _BY_CODE[code]
    except KeyError:
        stage = code.partition(".")[0]
        same_stage = [member.value for member in Reason if member.stage == stage]
        valid = same_stage or [f"{known}.*" for known in dict.fromkeys(member.stage for member in Reason)]
        raise KeyError(f"unknown reason code {code!r}; valid: {', '.join(valid)}") from None


def reason_class(code: str) -> ReasonClass:
    """Permanent, transient or operator. Errors: KeyError with the valid choices, as `reason`."""
    return reason(code).cls
