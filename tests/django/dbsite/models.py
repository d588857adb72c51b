from django.db import models


class Row(models.Model):
    text = models.CharField(max_length=100, unique=True)


class Note(models.Model):
    """Its constraint is looked at when the transaction commits."""

    row = models.ForeignKey(Row, on_delete=models.CASCADE)
