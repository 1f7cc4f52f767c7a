//! The mutants, and who must kill them. A new one is a line here, and its fault a few lines in `naive.rs`,
//! in `naive/` for locks and crashes, or in `remote/client.rs` for what takes a wire.

/// What is wrong with each mutant, and the guarantees that name its fault: each must be broken by it.
macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $fault:ident => $($killer:ident),+;)+) => {
        /// What may be wrong with a store.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[doc = $what])+ $fault,)+
        }

        pub(crate) const MUTANTS: &[Mutant] = &[
            $(Mutant { fault: Fault::$fault, killed_by: &[$(stringify!($killer)),+] },)+
        ];
    };
}

/// A broken store.
pub(crate) struct Mutant {
    pub(crate) fault: Fault,
    pub(crate) killed_by: &'static [&'static str],
}

mutants! {
    // round trip
    /// The absolute end is not stored.
    NotAfterDropped => created_session_is_loaded_whole;
    /// An empty value counts as none.
    EmptyIsAbsent => empty_data_is_kept;
    /// Data ends at its first NUL, as in a C string.
    DataEndsAtNul => binary_data_is_kept;
    /// Data goes through a text column.
    DataIsText => binary_data_is_kept;
    /// Subjects are folded to lower case.
    SubjectFolded => unicode_subject_is_kept;
    /// Subjects end at their first NUL.
    SubjectEndsAtNul => unicode_subject_is_kept;
    /// The subject is for the index alone.
    SubjectDropped => subject_is_kept_by_every_store;
    /// An update without subject keeps the old one.
    UpdateKeepsSubject => subject_is_kept_by_every_store;
    /// A miss is an error.
    AbsentIsAnError => absent_session_is_none_not_an_error;
    /// Deleting nothing is an error.
    DeletingAbsentIsAnError => deleting_an_absent_session_is_false_not_an_error;
    /// A pool gives the reply of one call to another.
    RepliesSwapped => parallel_loads_return_their_own_data;

    // answers
    /// An update of nothing is a conflict.
    UpdateOfAbsentIsConflict => every_call_in_every_state_answers_as_the_table_says;
    /// An expired row that is deleted counts as a session.
    DeletingExpiredIsTrue => every_call_in_every_state_answers_as_the_table_says;
    /// An update of a longer value in place leaves its tail.
    ShorterDataKeepsTail => random_calls_agree_with_the_memory_store;
    /// The index works and is not declared.
    SubjectsUndeclared => capabilities_are_declared_exactly_when_they_exist, subject_lists_its_live_sessions;
    /// The index is declared and there is none.
    SubjectsMissing => capabilities_are_declared_exactly_when_they_exist, session_that_changes_subject_moves;
    /// The sweep works and is not declared.
    SweepUndeclared => capabilities_are_declared_exactly_when_they_exist, sweep_is_bounded;
    /// The sweep is declared and there is none.
    SweepMissing => capabilities_are_declared_exactly_when_they_exist, sweep_removes_expired_and_only_expired;
    /// Errors carry another backend's name.
    ErrorsNameAnother => every_error_names_its_backend;

    // identity
    /// `SET` without `NX`.
    CreateOverwrites => create_on_a_live_key_is_refused_and_changes_nothing;
    /// `ON CONFLICT DO NOTHING`, and nobody looks whether a row was written.
    CreateReportsSuccess => create_on_a_live_key_is_refused_and_changes_nothing;
    /// A refused create sets the life of what is there.
    RefusedCreateExtends => create_on_a_live_key_is_refused_and_changes_nothing;
    /// A row that waits for the sweeper stands in the way.
    ExpiredBlocksCreate => create_on_an_expired_key_succeeds;
    /// Look, then write.
    CreateChecksThenSets => concurrent_creates_have_one_winner;
    /// Look, then write, under a lock of this process.
    CreateLocksItsNodeOnly => concurrent_creates_have_one_winner;
    /// The prefix is forgotten.
    NamespaceIgnored => namespaces_do_not_see_each_other;

    // expiry
    /// A row that waits for the sweeper is loaded.
    ExpiredIsLoaded => expired_session_is_not_loaded;
    /// A row that waits for the sweeper is updated.
    ExpiredIsUpdated => expired_session_is_not_updated;
    /// A row that waits for the sweeper is touched.
    ExpiredIsTouched => expired_session_is_not_touched;
    /// A row that waits for the sweeper is listed.
    ExpiredIsListed => expired_session_is_not_listed;
    /// A ttl is cut to whole seconds.
    TtlRoundedDown => session_lives_its_whole_ttl;
    /// A ttl is rounded up to ten seconds, and the profile says a millisecond.
    TtlRoundedUp => session_ends_within_the_declared_granularity;
    /// `GETEX` on every load.
    LoadExtends => load_does_not_extend_life;
    /// `remaining` is the ttl of the last write.
    RemainingIsTtl => load_tells_the_remaining_life;
    /// `PEXPIRE … GT`.
    TouchOnlyExtends => touch_sets_the_remaining_life;
    /// A touch that does nothing.
    TouchDoesNothing => touch_sets_the_remaining_life;
    /// `SET … KEEPTTL`.
    UpdateKeepsOldEnd => update_sets_a_new_ttl;
    /// A touch is a write.
    TouchChangesVersion => touch_changes_neither_data_nor_version;
    /// A touch of nothing leaves an empty item.
    TouchCreatesGhost => touch_of_an_absent_session_creates_nothing;
    /// `SET` without `PX`.
    UpdateDropsEnd => update_never_leaves_a_session_without_an_end;
    /// Less than a millisecond is zero, and zero is for ever.
    TinyTtlIsForever => ttl_below_the_shortest_lives_the_shortest;
    /// More than thirty days is a date (memcached).
    LongTtlIsADate => thirty_one_day_ttl_is_a_length_not_a_date;
    /// Tenths of a second in 32 bits.
    TtlIn32BitsOfTenths => ten_year_ttl_is_kept_or_refused;
    /// The end in 32 bits of seconds.
    EndIn32Bits => ttl_past_2038_is_kept_or_refused;
    /// Zero means no end.
    ZeroTtlIsForever => zero_ttl_is_refused;
    /// Zero means at once.
    ZeroTtlEndsAtOnce => zero_ttl_is_refused;
    /// The client's clock says when a life ends, and the server's whether it has.
    EndsByTheClientsClock => session_lives_its_ttl_whatever_the_servers_clock_says;
    /// The rest of a life is the server's end less the client's time.
    RemainingByTheClientsClock => session_lives_its_ttl_whatever_the_servers_clock_says;
    /// A sweep removes what has ended by the client's clock.
    SweepsByTheClientsClock => session_lives_its_ttl_whatever_the_servers_clock_says;

    // concurrency
    /// Its place is looked for, and made if it is not there, in two steps.
    PlaceIsMadeTwice => nodes_that_start_at_once_all_serve;
    /// The version that is returned is not the one that was written.
    VersionReturnedIsAnother => update_with_the_current_version_is_written;
    /// The version is not looked at.
    VersionIgnored => update_with_an_old_version_is_a_conflict_and_changes_nothing;
    /// The conflict is told after the write.
    ConflictStillWrites => update_with_an_old_version_is_a_conflict_and_changes_nothing;
    /// A version of zeros is no condition.
    ZeroVersionMatchesAll => update_with_an_old_version_is_a_conflict_and_changes_nothing;
    /// The version is a digest of the data.
    VersionIsADigest => every_write_has_a_new_version;
    /// The version counts the writes of a record.
    VersionIsACounter => every_write_has_a_new_version;
    /// `INSERT … ON CONFLICT UPDATE`.
    UpdateUpserts => update_after_delete_is_not_found_and_creates_nothing;
    /// The version is not looked at.
    DeleteIgnoresExpected => delete_of_an_old_version_is_a_conflict_and_changes_nothing;
    /// Look, then write.
    UpdateChecksThenSets => delete_wins_every_race_with_update, concurrent_updates_of_one_version_have_one_winner,
        counter_is_exact_under_contention, two_calls_at_once_answer_as_if_one_came_first;
    /// Look, then write, under a lock of this process.
    UpdateLocksItsNodeOnly => concurrent_updates_of_one_version_have_one_winner;
    /// Look, then delete.
    DeleteChecksThenDeletes => one_of_many_deletes_finds_the_session;
    /// A node remembers what it loaded for a while.
    LoadsAreCached => history_is_linearizable;
    /// A load asks a replica, or takes a read that is not consistent (DynamoDB's default).
    LoadsAreEventuallyConsistent => history_is_linearizable, created_session_is_loaded_whole;

    /// A statement joins the rows of its old snapshot: one that was deleted meanwhile counts as one of another version.
    DeletedMeanwhileIsConflict => two_calls_at_once_answer_as_if_one_came_first,
        call_that_met_a_lock_answers_as_what_was_committed;
    /// A batch locks its rows in any order, and one of two that wait for each other is ended.
    LocksInAnyOrder => batches_and_sweeps_do_not_deadlock;
    /// Calls of a kind that is at work have the connections, one after the other, and a load waits until none is.
    BusyKindKeepsConnections => busy_callers_keep_no_other_call_waiting;

    // other programs
    /// A batch with one locked row waits as a whole.
    BatchWaitsForALock => a_locked_record_delays_nobody_else;
    /// `SELECT … FOR UPDATE`, to load.
    LoadsWaitForLocks => a_locked_record_delays_nobody_else, uncommitted_changes_are_not_seen;
    /// What was read before the wait is written over after it.
    OldSnapshotAfterALock => call_that_met_a_lock_answers_as_what_was_committed;
    /// What was deleted during the wait is written anew.
    DeletedUnderALockComesBack => call_that_met_a_lock_answers_as_what_was_committed;
    /// No `lock_timeout`, and no deadline for the statement.
    LockWaitHasNoLimit => lock_that_is_kept_is_unavailable_within_the_deadline;
    /// Whoever waits for a lock keeps a connection of the pool.
    WaitingCallPinsItsConnection => lock_that_is_kept_is_unavailable_within_the_deadline;
    /// A sweep without `SKIP LOCKED`.
    SweepWaitsForLocks => sweep_passes_over_a_locked_record;
    /// `READ UNCOMMITTED`.
    UncommittedIsRead => uncommitted_changes_are_not_seen;
    /// A sweep takes what no snapshot needs, and waits for those that are open.
    SweepWaitsForSnapshots => long_transaction_of_another_program_stops_nothing;

    // crash
    /// A write is acknowledged once it is in memory.
    AcknowledgedBeforeItIsOnDisk => acknowledged_writes_survive_a_crash;
    /// The server that came back is another one, and nobody connects to it.
    NeverConnectsAfterACrash => acknowledged_writes_survive_a_crash;

    // cancellation and failure
    /// The reply to a dropped call stays on the connection for the next.
    DroppedCallLeavesItsReply => cancelled_calls_leave_the_store_usable;
    /// A dropped call takes its connection along.
    DroppedCallLosesItsConnection => cancelled_calls_leave_the_store_usable;
    /// A server that is down has no sessions.
    UnreachableIsAbsent => unreachable_server_is_unavailable_within_the_deadline;
    /// No deadline.
    UnreachableHangs => unreachable_server_is_unavailable_within_the_deadline;
    /// The client's error is unwrapped.
    UnreachablePanics => unreachable_server_is_unavailable_within_the_deadline;
    /// What cannot be read is not there.
    ForeignIsAbsent => foreign_value_is_corrupt_not_a_panic_and_not_absent;
    /// The decoder's error is unwrapped.
    ForeignPanics => foreign_value_is_corrupt_not_a_panic_and_not_absent;
    /// What cannot be read may be created over.
    ForeignIsOverwritten => foreign_value_is_corrupt_not_a_panic_and_not_absent;
    /// The lengths in the head are not compared.
    CutValueIsAccepted => truncated_value_is_corrupt;
    /// The key in the head is not compared.
    KeyIsNotChecked => value_of_another_key_is_corrupt;
    /// The version is compared where it stands, whatever the rest is.
    UnreadableIsOverwritten => value_of_a_newer_version_is_left_alone, truncated_value_is_corrupt;
    /// A newer format is a corrupt one.
    NewerIsCorrupt => value_of_a_newer_version_is_left_alone;
    /// What cannot be read is removed by the load that finds it.
    UnreadableIsRemoved => value_of_a_newer_version_is_left_alone, foreign_value_is_corrupt_not_a_panic_and_not_absent;
    /// What cannot be read cannot be deleted.
    UnreadableCannotBeDeleted => unreadable_value_is_deleted_when_asked;
    /// A value that cannot be read fails all that travel with it.
    UnreadableFailsItsBatch => one_unreadable_record_in_a_batch_fails_alone;

    // faults between store and server
    /// No deadline for a reply.
    NoDeadlineForReplies => hanging_server_is_unavailable_within_the_deadline;
    /// The wait for a connection of the pool has no limit.
    PoolWaitHasNoLimit => empty_pool_is_unavailable_within_the_deadline;
    /// A call that ends at its deadline does not give back its place in the pool.
    LateCallKeepsItsPlace => empty_pool_is_unavailable_within_the_deadline;
    /// It connects once.
    NeverReconnects => store_recovers_when_the_server_returns;
    /// A connection that broke goes back to the pool.
    BrokenConnectionIsKept => one_broken_connection_fails_no_caller_for_long;
    /// A connection that broke before the reply has told that there is none.
    CutReplyIsAbsent => reply_cut_in_half_is_never_taken_for_a_whole_one, request_that_never_arrived_changes_nothing,
        store_recovers_when_the_server_returns;
    /// What came before the connection closed is the reply.
    CutReplyIsWhole => reply_cut_in_half_is_never_taken_for_a_whole_one;
    /// What one read gives is the reply.
    ChunkIsReply => reply_that_comes_byte_by_byte_is_whole;
    /// A call that is dropped or late leaves its reply on the connection for the next.
    UnreadReplyIsKept => slow_replies_are_the_callers_own, cancelled_calls_through_a_slow_wire_leave_the_store_usable;
    /// The first reply that comes is the one to what was asked.
    ReplyIsTakenByItsPlace => replies_out_of_step_never_give_another_record;
    /// The reply is found to be another's, and the connection stays in use.
    OutOfStepIsKept => replies_out_of_step_never_give_another_record;
    /// A success says that something was written, and not what.
    AnySuccessIsOwn => replies_out_of_step_never_confirm_an_update_that_was_not_made;
    /// A write counts as done once it is sent.
    SentIsAcknowledged => request_that_never_arrived_changes_nothing;
    /// A creation is sent again, and finds itself.
    CreateIsRetried => lost_reply_to_a_write_is_recognised_or_unavailable, lost_reply_to_a_create_brings_nothing_back;
    /// A creation is sent again, and knows itself: but it may have been deleted in between.
    OwnCreateIsRecognised => lost_reply_to_a_create_brings_nothing_back;
    /// An update is sent again, and finds its own version.
    UpdateIsRetried => lost_reply_to_a_write_is_recognised_or_unavailable;
    /// A deletion is sent again, and finds nothing.
    DeleteIsRetried => lost_reply_to_a_write_is_recognised_or_unavailable;
    /// The deletion of a subject's sessions is sent again, and finds none.
    DeleteAllIsRetried => lost_reply_to_a_write_is_recognised_or_unavailable;
    /// The client's error tells its password.
    PasswordInError => wrong_password_is_not_retried_and_not_shown;
    /// The derived `Debug`.
    PasswordInDebug => wrong_password_is_not_retried_and_not_shown;
    /// Connecting is tried three times, whatever the reason.
    WrongPasswordIsRetried => wrong_password_is_not_retried_and_not_shown;

    // limits
    /// The last byte of the largest record has no room.
    LargestIsCut => largest_declared_record_is_kept;
    /// What is too large is cut.
    TooLargeIsCut => one_byte_more_is_too_large_before_any_write_and_the_old_value_stays;
    /// What is too large takes the old value with it (memcached).
    TooLargeDestroys => one_byte_more_is_too_large_before_any_write_and_the_old_value_stays;
    /// A ttl that is too long is cut.
    LongerTtlIsCut => longest_declared_ttl_is_kept_and_a_longer_one_is_refused;
    /// A record that is refused fails all that travel with it.
    BadRecordFailsItsBatch => one_bad_record_in_a_batch_fails_alone;
    /// Calls on one key that travel together have one answer.
    OneKeyHasOneAnswer => one_key_twice_in_a_batch_answers_both_truly;

    // subjects
    /// The index holds a key twice.
    ListedTwice => subject_lists_its_live_sessions;
    /// Create alone writes the index.
    UpdateDoesNotIndex => session_that_changes_subject_moves;
    /// The list is that of an index which follows the table (DynamoDB's global ones).
    ListsAreEventuallyConsistent => subject_lists_its_live_sessions, session_that_changes_subject_moves;
    /// The list is not verified, and the old entry stays.
    OldSubjectStaysListed => session_that_changes_subject_moves;
    /// The index forgets a key at the end that it was written with.
    IndexPrunedByFirstEnd => touched_session_stays_listed;
    /// Only the first page of the list.
    DeleteAllTakesAPage => delete_all_of_a_subject_ends_every_one;
    /// The one is not spared.
    ExceptIgnored => delete_all_of_a_subject_but_one_keeps_that_one;
    /// One list, and no second look.
    DeleteAllListsOnce => delete_all_catches_a_session_that_is_being_renewed;
    /// None of those listed is there any more, so there are none: but they have been renewed.
    DeleteAllStopsAtNone => delete_all_catches_a_session_that_is_being_renewed;
    /// The index is read, and then the records: a session that is renewed between the two is nowhere.
    ListLooksLater => delete_all_catches_a_session_that_is_being_renewed;
    /// A deletion that is refused takes the key out of the index.
    RefusedDeleteUnlists => subject_list_equals_the_truth_after_random_calls;

    // sweep
    /// A sweep takes what will end within the minute.
    SweepTakesLive => sweep_removes_expired_and_only_expired;
    /// A sweep counts and removes nothing.
    SweepCountsOnly => sweep_removes_expired_and_only_expired;
    /// A sweep takes all that it finds.
    SweepUnbounded => sweep_is_bounded;
    /// A sweep counts what it found, not what it removed.
    SweepersCountTwice => concurrent_sweepers_do_not_collide;
    /// A sweep removes what it found a moment ago, without a second look.
    SweepTrustsItsList => session_touched_during_a_sweep_survives;
}
