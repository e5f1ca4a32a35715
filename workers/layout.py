"""Where everything of a job lies in Redis: the names of the keys, and nothing else.

contrafact:job:<id>             the record, JSON
contrafact:job:<id>:input       the uploaded bytes, until the job is over
contrafact:job:<id>:arrived     those of them that have arrived, until the job is accepted or refused; expires
contrafact:job:<id>:result      hash: name of a part ("strip.png", "frames/0.png" …) → bytes
contrafact:job:<id>:events      stream of what happened to it, capped
contrafact:lease:<id>           "<token> <holder>"; expires when the holder falls silent
contrafact:gone:<id>            tombstone: id and owner, JSON; outlives the job
contrafact:waiting              sorted set: queued jobs in the order in which they are to be taken
contrafact:waiting:mix          hash: classifier → how many of its jobs wait
contrafact:published            sorted set: queued jobs by the time of their last message, on Redis's clock
contrafact:running              set: jobs that somebody works on, or did when last heard of
contrafact:stopping             sorted set: jobs whose attempt is to stop, by the time of the wish
contrafact:stored               bytes that uploads and results take
contrafact:expiring             sorted set: ended jobs by the time of their expiry
contrafact:expiring:sizes       hash: ended job → "<bytes> <owner>"
contrafact:erased               there if bytes of a job went since the broker's file was last written anew
contrafact:ended                hash: status → how many jobs ended so
contrafact:service[:<classifier>]   list: seconds of the last jobs, all or one classifier's
contrafact:owner:<owner>:jobs   sorted set: an owner's jobs by the time of their acceptance
contrafact:owner:<owner>:open   set: those that are not over
contrafact:once:<owner>:<hash>  "<id> <payload's digest>": an Idempotency-Key and what it stands for
contrafact:workers              set: workers that claimed to be ready
contrafact:ready:<worker>       one's claim; expires when it falls silent
contrafact:seen                 the worker that claimed last; what is left of SEEN_LASTS_S tells when
contrafact:notices              channel: jobs that were taken from the attempt that works on them
contrafact:outbox, :letters     sorted set and hash: what webhooks are to be told, by the time it is due
"""

import hashlib

WAITING = "contrafact:waiting"
MIX = "contrafact:waiting:mix"
PUBLISHED = "contrafact:published"
RUNNING = "contrafact:running"
STOPPING = "contrafact:stopping"
STORED = "contrafact:stored"
EXPIRING = "contrafact:expiring"
SIZES = "contrafact:expiring:sizes"
ERASED = "contrafact:erased"
ENDED = "contrafact:ended"
SERVICE = "contrafact:service"
WORKERS = "contrafact:workers"
SEEN = "contrafact:seen"
OUTBOX = "contrafact:outbox"
LETTERS = "contrafact:outbox:letters"
NOTICES = "contrafact:notices"
RECONCILER = "contrafact:reconciler"

SEEN_LASTS_S = 86_400
"""For how long it is known after its last claim that there was a worker."""


def job_key(job_id: str, part: str | None = None) -> str:
    """A job's record, or its `input`, `arrived`, `result` or `events`."""
    return f"contrafact:job:{job_id}" + (f":{part}" if part else "")


def lease_key(job_id: str) -> str:
    """Who works on a job, for as long as the key lasts."""
    return f"contrafact:lease:{job_id}"


def tombstone_key(job_id: str) -> str:
    """What is left of a job after its expiry."""
    return f"contrafact:gone:{job_id}"


def owner_key(owner: str | None, part: str) -> str:
    """An owner's `jobs` or `open`; all jobs without an owner share one."""
    return f"contrafact:owner:{owner or ''}:{part}"


def once_key(owner: str | None, key: str) -> str:
    """Where an owner's Idempotency-Key is remembered; the key itself, which may say anything, is not kept."""
    return f"contrafact:once:{owner or ''}:{hashlib.sha256(key.encode()).hexdigest()}"


def service_key(classifier_id: str | None = None) -> str:
    """The service times of one classifier, or of all."""
    return f"{SERVICE}:{classifier_id}" if classifier_id else SERVICE


def ready_key(worker: str) -> str:
    """A worker's claim to be ready."""
    return f"contrafact:ready:{worker}"
