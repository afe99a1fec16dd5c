#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# perl: sorting, regular expressions, files, fork, pipes, signals, sockets, alarm.
use strict;
use warnings;
use Fcntl qw(:flock SEEK_SET);
use POSIX qw(:sys_wait_h);
use Socket;
use Time::HiRes qw(time sleep);

sub check {
    my ($wanted, $got, $what) = @_;
    return if defined $got && $wanted eq $got;
    $got = 'nothing' unless defined $got;
    print STDERR "FAILED: $what: wanted '$wanted', got '$got'\n";
    exit 1;
}

my %count;
$count{length $_}++ for map { 'x' x ($_ % 7) } 1 .. 10000;
check("0=1428 1=1429 2=1429 3=1429 4=1429 5=1428 6=1428", join(' ', map { "$_=$count{$_}" } sort keys %count), 'hashes');

open(my $file, '+>', '/tmp/perl.data') or die;
print $file "line $_\n" for 1 .. 5000;
seek($file, 0, SEEK_SET);
my $sum = 0;
while (<$file>) { $sum += $1 if /^line (\d+)$/ }
check(12502500, $sum, 'a file read back');
flock($file, LOCK_EX | LOCK_NB) or die "flock: $!";
open(my $second, '<', '/tmp/perl.data') or die;
check('no', flock($second, LOCK_SH | LOCK_NB) ? 'yes' : 'no', 'flock excludes');
flock($file, LOCK_UN);
check('yes', flock($second, LOCK_SH | LOCK_NB) ? 'yes' : 'no', 'flock released');

my @children;
for my $n (1 .. 10) {
    my $pid = fork() // die "fork: $!";
    exit $n if $pid == 0;
    push @children, $pid;
}
$sum = 0;
for (@children) { waitpid($_, 0); $sum += $? >> 8 }
check(55, $sum, 'exit statuses of ten children');

open(my $pipe, '-|', 'seq 1 100 | sort -rn | head -n 1') or die;
check("100\n", scalar <$pipe>, 'a pipe open');
close $pipe;
check('out', `sh -c 'echo out; exit 5'` =~ s/\n//r, 'backquotes');
check(5, $? >> 8, 'its status');

my $signals = 0;
$SIG{USR1} = sub { $signals++ };
for (1 .. 20) { my $before = $signals; kill USR1 => $$; sleep 0.001 while $signals == $before }
check(20, $signals, 'signals to itself');

my $alarm = 'none';
eval {
    local $SIG{ALRM} = sub { die "alarm\n" };
    alarm 1;
    select undef, undef, undef, 20;
};
check("alarm\n", $@, 'alarm interrupts select');

socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
if ((fork() // die) == 0) {
    close $a;
    while (sysread $b, my $data, 65536) { syswrite $b, uc $data or die }
    exit 0;
}
close $b;
syswrite $a, "hello" x 1000;
my $answer = '';
while (length $answer < 5000) { sysread $a, $answer, 65536, length $answer or die "eof" }
check('HELLO' x 1000, $answer, 'an echo over a socket pair');
close $a;
wait;
check(0, $?, "the echo's status");

opendir(my $dir, '/proc/self/fd') or die "opendir: $!";
check('yes', (grep { $_ eq '0' } readdir $dir) ? 'yes' : 'no', '/proc/self/fd');
check('yes', abs(time - CORE::time) < 2 ? 'yes' : 'no', 'clocks agree');
print "PASSED\n";
