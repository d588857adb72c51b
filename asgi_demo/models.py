from django.db import models


class Order(models.Model):
    item = models.CharField(max_length=100)


class AuditRow(models.Model):
    """Written by a callback, after the response: so it knows what became of it."""

    path = models.CharField(max_length=200)
    status = models.IntegerField(null=True)
    completion = models.CharField(max_length=20)
    body_bytes = models.IntegerField(null=True)
    seconds = models.FloatField()
